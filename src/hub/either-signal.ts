/** A signal that is aborted as soon as one of two is, with its reason. */
export function eitherSignal(given: AbortSignal | undefined, own: AbortSignal): AbortSignal {
  return given === undefined ? own : AbortSignal.any([given, own]);
}
