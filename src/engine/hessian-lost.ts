/**
 * What an accumulator gathered is lost with the device that held it, or that device cannot hold it. The engine works on without the device: a
 * Hessian that is made again is gathered elsewhere, from the same inputs.
 */
export class HessianLost extends Error {
  constructor(
    /** Whose it was. */
    readonly device: string,
    why: string,
  ) {
    super(`${device} failed: ${why}`);
    this.name = "HessianLost";
  }
}
