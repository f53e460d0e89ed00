/** What gathers Hessians and carries errors over to later columns; a real GPU computes the forward pass too. `auto`: a GPU where there is a real one that is faster. */
export const DEVICES = ["auto", "cpu", "gpu"] as const;
export type Device = (typeof DEVICES)[number];
