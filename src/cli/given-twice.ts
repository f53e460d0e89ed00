/** Options that may be given again, each time for one thing more. */
const REPEATABLE: ReadonlySet<string> = new Set(["keep", "bits-for"]);
const ALIASES: Readonly<Record<string, string>> = { o: "output", h: "help", v: "version" };

/**
 * The first option that is given more than once though it has one value. yargs would make a list of the values, or, of numbers of which
 * the last is 1, their sum.
 */
export function givenTwice(args: readonly string[]): string | undefined {
  const end = args.indexOf("--");
  const seen = new Set<string>();
  for (const arg of end < 0 ? args : args.slice(0, end)) {
    const given = /^--?([a-z][a-z-]*)/i.exec(arg)?.[1];
    if (given === undefined) continue;
    // --groupSize is --group-size, and --no-sym is --sym.
    const kebab = given.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`).replace(/^no-/, "");
    const name = ALIASES[kebab] ?? kebab;
    if (seen.has(name) && !REPEATABLE.has(name)) return name;
    seen.add(name);
  }
  return undefined;
}
