export function makeUntied(from: string, to: string): void;
