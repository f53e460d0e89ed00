/**
 * A device failed beside which the engine works, or cannot hold what it was to, and what was being made there is lost. The engine goes on without it:
 * what is made again is made elsewhere, from the same inputs.
 */
export class DeviceLost extends Error {
  constructor(
    /** Whose it was. */
    readonly device: string,
    readonly why: string,
  ) {
    super(`${device} failed: ${why}`);
    this.name = "DeviceLost";
  }
}
