/** What gathers Hessians. `auto`: a GPU where there is a real one that is faster. */
export const DEVICES = ["auto", "cpu", "gpu"] as const;
export type Device = (typeof DEVICES)[number];
