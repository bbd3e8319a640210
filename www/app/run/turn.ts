/** One run at a time in all tabs of a browser: they share its processor, its graphics device and its storage. */

const LOCK = 'laminate-run'
const CHANNEL = 'laminate-run'

/** What a run says of itself to other tabs. */
export interface Turn {
  /** "comparing the layers of SmolLM2". */
  what: string
  /** "layer 5 of 12"; empty where there is nothing to say yet. */
  where: string
}

type Message = 'who' | { running: Turn } | 'ended'

/** Speaks for this tab, and hears of the others. */
export class Turns {
  private channel: BroadcastChannel | null = null
  private mine: (() => Turn) | null = null
  private watching = false

  /** `heard` is told what another tab runs, and null when that has ended. */
  constructor(private readonly heard: (turn: Turn | null) => void) {}

  /** Listens from now on, and asks who runs. */
  start(): void {
    const { locks } = navigator
    if (this.channel || typeof BroadcastChannel !== 'function' || !locks) return
    this.channel = new BroadcastChannel(CHANNEL)
    this.channel.onmessage = ({ data }: MessageEvent<Message>) => {
      if (data === 'who') this.tell()
      else if (data === 'ended') this.heard(null)
      else {
        this.heard(data.running)
        void this.watch(locks)
      }
    }
    this.say('who')
  }

  /** Says what this tab runs, when it begins and whenever it gets on. */
  tell(): void {
    if (this.mine) this.say({ running: this.mine() })
  }

  /**
   * Runs `work` when no other tab runs anything. `waiting` is told that another one does; a stop ends the wait.
   * Where the browser has no locks, nobody is waited for.
   */
  async take<T>(describe: () => Turn, signal: AbortSignal, waiting: () => void, work: () => Promise<T>): Promise<T> {
    const { locks } = navigator
    if (!locks) return work()
    const during = async () => {
      this.mine = describe
      this.heard(null)
      this.tell()
      try {
        return await work()
      } finally {
        this.mine = null
        this.say('ended')
      }
    }
    const free = await locks.request(LOCK, { ifAvailable: true }, async lock =>
      lock ? { result: await during() } : null,
    )
    if (free) return free.result
    waiting()
    this.say('who')
    return locks.request(LOCK, { signal }, during)
  }

  /** A tab that is closed says nothing any more; its lock is given back. */
  private async watch(locks: LockManager): Promise<void> {
    if (this.watching) return
    this.watching = true
    await locks.request(LOCK, { mode: 'shared' }, () => this.heard(null)).catch(() => {})
    this.watching = false
  }

  private say(message: Message): void {
    this.channel?.postMessage(message)
  }
}

/** Whether another tab holds the turn now. */
export async function isTaken(): Promise<boolean> {
  const state = await navigator.locks?.query().catch(() => null)
  return Boolean(state?.held?.some(({ name }) => name === LOCK))
}

/** The sentence for who finds the turn taken. */
export function takenSentence({ what, where }: Turn): string {
  return `Another tab of this browser is ${what}${where && `, ${where}`}.`
}
