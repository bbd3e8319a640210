/**
 * A gate that calls pass between their steps: while it is shut, they wait there, with everything they hold.
 * A call that is to stop passes, so that it can.
 */
export class Gate {
  private shut = false
  private waiting: (() => void)[] = []

  /** `arrived` is told when a call waits. */
  constructor(private readonly arrived: () => void) {}

  hold(shut: boolean): void {
    this.shut = shut
    if (!shut) this.release()
  }

  /** Lets go whoever waits, to look again whether they may. */
  release(): void {
    for (const go of this.waiting.splice(0)) go()
  }

  async pass(stopped: () => boolean): Promise<void> {
    while (this.shut && !stopped()) {
      const gone = new Promise<void>(resolve => this.waiting.push(resolve))
      this.arrived()
      await gone
    }
  }
}
