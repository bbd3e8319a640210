interface Sentinel {
  release(): Promise<void>
}
interface WakeLocks {
  request(type: 'screen'): Promise<Sentinel>
}

/**
 * Keeps the screen on while a run goes on. The browser takes the lock away whenever the page is hidden, so it is
 * asked for again when it shows; where there is none, or it is refused, the run does without.
 */
export class Awake {
  private wanted = false
  private sentinel: Promise<Sentinel | null> = Promise.resolve(null)

  constructor(
    private readonly locks: WakeLocks | null | undefined = navigator.wakeLock,
    private readonly page:
      | Pick<Document, 'visibilityState' | 'addEventListener' | 'removeEventListener'>
      | null
      | undefined = globalThis.document,
  ) {}

  on(): void {
    if (this.wanted) return
    this.wanted = true
    this.page?.addEventListener('visibilitychange', this.again)
    this.ask()
  }

  off(): void {
    if (!this.wanted) return
    this.wanted = false
    this.page?.removeEventListener('visibilitychange', this.again)
    const { sentinel } = this
    this.sentinel = Promise.resolve(null)
    void sentinel.then(held => held?.release()).catch(() => {})
  }

  private again = () => {
    if (this.page?.visibilityState === 'visible') this.ask()
  }

  private ask(): void {
    const before = this.sentinel
    this.sentinel = (async () => {
      await before.then(held => held?.release()).catch(() => {})
      return this.wanted ? (this.locks?.request('screen').catch(() => null) ?? null) : null
    })()
  }
}
