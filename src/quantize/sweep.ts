// What the methods share that go over columns one by one. A column is a contiguous run of all rows.

/** Columns between two updates of everything: enough for a matrix product to be fast. */
export const BLOCK = 128;
/** Columns of a group between two updates of the rest of it, or of the block. */
export const PANEL = 64;
