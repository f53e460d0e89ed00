import { InputError } from "../errors.js";

/** How patient requests are, and who is told. */
export interface SteadyOptions {
  /** Ends all waiting and reading at once; what was begun throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told of every try that failed and is made again, before what there is to wait. */
  readonly onRetry?: (retry: Retry) => void;
  readonly sleep?: (ms: number) => Promise<void>;
  /** Milliseconds without a byte, in either direction, after which a try has failed. */
  readonly stall?: number;
}

/** A request that is made again. */
export interface Retry {
  /** Method and address, without the query. */
  readonly request: string;
  /** What the last try failed with. */
  readonly why: string;
  /** Which try is next, of how many. */
  readonly next: number;
  readonly tries: number;
  /** Until then. */
  readonly seconds: number;
}

const TRIES = 6;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;

/** The Hub counts its requests in windows of five minutes; whoever asks for more is not worth waiting for unattended. */
const LONGEST_RETRY_AFTER = 10 * 60_000;

/** A try that failed in a way that the next one need not. */
export class Broken extends Error {
  /** @param what for the message @param retryAfter milliseconds that the server asks to wait */
  constructor(
    readonly what: string,
    readonly retryAfter = 0,
  ) {
    super(what);
  }
}

/** The tries of one request: waits between them, and gives up with an `InputError`. */
export class Attempts {
  private failures = 0;

  /** @param request method and address, for messages; it must carry no query, since a signed one is a secret */
  constructor(
    private readonly request: string,
    private readonly options: SteadyOptions,
    private readonly tries = TRIES,
  ) {}

  /** Something arrived: what fails from here on is counted anew. */
  progressed(): void {
    this.failures = 0;
  }

  /** Waits before the next try: twice as long each time, with full jitter, so that many clients do not come back at once. */
  async wait({ what, retryAfter }: Broken): Promise<void> {
    this.failures += 1;
    if (this.failures >= this.tries) throw new InputError(`${this.request}: ${what}; given up after ${this.tries === 1 ? "one try" : `${this.tries} tries`}`);
    if (retryAfter > LONGEST_RETRY_AFTER) throw new InputError(`${this.request}: ${what}; it asks to wait ${Math.ceil(retryAfter / 60_000)} minutes, run the same command again then`);
    const wait = Math.max(retryAfter, Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (this.failures - 1)));
    this.options.onRetry?.({ request: this.request, why: what, next: this.failures + 1, tries: this.tries, seconds: wait / 1000 });
    await sleep(wait, this.options);
  }
}

/** Resolves after `ms`; throws the signal's reason as soon as it is aborted. */
async function sleep(ms: number, { signal, sleep: own }: SteadyOptions): Promise<void> {
  signal?.throwIfAborted();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = own?.(ms) ?? new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  // A signal of its own: many may wait for the same one, and Node warns of many listeners.
  const stop = signal && AbortSignal.any([signal]);
  const aborted = new Promise<void>((resolve) => stop?.addEventListener("abort", () => resolve(), { once: true }));
  await Promise.race([over, aborted]);
  clearTimeout(timer);
  signal?.throwIfAborted();
}
