import type { FromKeeper, ToKeeper } from './messages'

/** What Chromium offers where the page may be installed; not in the DOM library. */
interface InstallOffer extends Event {
  prompt(): Promise<{ outcome: 'accepted' | 'dismissed' }>
}

/** An installed page that is never closed looks for a new version now and then, when it is looked at. */
const LOOK_EVERY_MS = 3_600_000

/** The page without a network: whether it is kept, whether a newer one waits, whether it can be installed. */
export class Offline {
  /** Everything that the page needs is in this browser. */
  kept = $state(false)
  /** A new version waits; `others` once it has been asked for and could not take over. */
  update = $state<'none' | 'ready' | 'others'>('none')
  private offer = $state.raw<InstallOffer | null>(null)
  private waiting: ServiceWorker | null = null

  readonly installable = $derived(this.offer !== null)

  /**
   * Asks the browser to keep the page. Called once the engine is there: what the worker fetches then, the
   * browser has. Where workers are refused (private windows, plain http) the page works as any other.
   */
  async keep(): Promise<void> {
    // The build puts the manifest and the worker there; the development server has neither.
    if (!document.querySelector('link[rel=manifest]') || !('serviceWorker' in navigator)) return
    try {
      const registration = await navigator.serviceWorker.register('./offline.js', { updateViaCache: 'none' })
      this.watch(registration)
      let looked = Date.now()
      document.addEventListener('visibilitychange', () => {
        if (document.visibilityState !== 'visible' || Date.now() - looked < LOOK_EVERY_MS) return
        looked = Date.now()
        void registration.update().catch(() => {})
      })
    } catch {
      // Refused.
    }
  }

  /** Called before anything else, because the browser makes its offer once. */
  listenForOffer(): void {
    addEventListener('beforeinstallprompt', event => {
      event.preventDefault()
      this.offer = event as InstallOffer
    })
    addEventListener('appinstalled', () => (this.offer = null))
  }

  async install(): Promise<void> {
    const { offer } = this
    this.offer = null
    await offer?.prompt()
  }

  /** Lets the waiting version take over and loads it, unless another tab still runs this one. */
  reload(): void {
    const { waiting } = this
    if (!waiting) return
    const { port1, port2 } = new MessageChannel()
    const again = () => location.reload()
    navigator.serviceWorker.addEventListener('controllerchange', again, { once: true })
    port1.onmessage = ({ data }: MessageEvent<FromKeeper>) => {
      navigator.serviceWorker.removeEventListener('controllerchange', again)
      this.update = data
      port1.close()
    }
    waiting.postMessage('replace' satisfies ToKeeper, [port2])
  }

  private watch(registration: ServiceWorkerRegistration): void {
    const look = () => {
      this.kept = registration.active?.state === 'activated'
      this.waiting = registration.waiting
      // The first version waits for nobody, or for a moment only.
      if (this.waiting && registration.active && this.update === 'none') this.update = 'ready'
    }
    const follow = (worker: ServiceWorker | null) => worker?.addEventListener('statechange', look)
    registration.addEventListener('updatefound', () => follow(registration.installing))
    follow(registration.installing)
    follow(registration.active)
    look()
  }
}
