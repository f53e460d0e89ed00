/** Barks once when something that is waited for does not move for `patience` ms. One timer serves many moves, which come with every chunk. */
export class Watchdog {
  barked = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private waiting = false;
  private since = 0;

  constructor(
    private readonly patience: number,
    private readonly bark: () => void,
  ) {}

  /** Something moved, and more is waited for. */
  watch(): void {
    this.waiting = true;
    this.since = performance.now();
    this.timer ??= setTimeout(this.look, this.patience);
  }

  /** Nothing is waited for: what comes next is ours to do. */
  rest(): void {
    this.waiting = false;
  }

  /** For good. Until then it may keep a process alive. */
  end(): void {
    this.rest();
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  private readonly look = (): void => {
    this.timer = undefined;
    if (!this.waiting) return;
    const left = this.since + this.patience - performance.now();
    if (left > 0) {
      this.timer = setTimeout(this.look, left);
      return;
    }
    this.barked = true;
    this.bark();
  };
}
