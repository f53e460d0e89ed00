/** One way to treat a group of linears: what it costs (bits) and what is lost by it. */
export interface Choice {
  readonly cost: number;
  readonly loss: number;
}

interface State extends Choice {
  readonly pick: number;
  readonly before: State | undefined;
}

/** More states than this are thinned: far more than a budget in bits a weight can tell apart. */
const MOST_STATES = 4096;

/**
 * Takes one choice of each group so that the losses add up to the least, and the costs to no more than `budget` (the multiple-choice
 * knapsack problem). All undominated sums are carried from group to group (Nemhauser and Ullmann 1969), which is exact; where they
 * become too many, only the best of those that cost nearly the same.
 * @returns an index into each group's choices; undefined if even the cheapest cost more than the budget
 */
export function allocate(groups: readonly (readonly Choice[])[], budget: number): number[] | undefined {
  let rest = groups.reduce((sum, choices) => sum + Math.min(...choices.map(({ cost }) => cost)), 0);
  // Costs are whole bits; the budget is a product of fractions.
  const limit = budget * (1 + 1e-12);
  let states: State[] = [{ cost: 0, loss: 0, pick: -1, before: undefined }];
  for (const choices of groups) {
    rest -= Math.min(...choices.map(({ cost }) => cost));
    // Choice by choice: what is to be sorted are then a few runs in order.
    const next = choices.flatMap(({ cost, loss }, pick) => states.map((before): State => ({ cost: before.cost + cost, loss: before.loss + loss, pick, before })));
    states = thinned(undominated(next.filter(({ cost }) => cost + rest <= limit)));
  }
  // Undominated: the dearest loses least.
  let state = states.at(-1);
  if (state === undefined) return undefined;
  const picks: number[] = [];
  for (; state.before !== undefined; state = state.before) picks.push(state.pick);
  return picks.reverse();
}

/** By rising cost and falling loss. */
function undominated(states: State[]): State[] {
  states.sort((a, b) => a.cost - b.cost || a.loss - b.loss);
  let least = Infinity;
  return states.filter(({ loss }) => {
    const better = loss < least;
    least = Math.min(least, loss);
    return better;
  });
}

function thinned(states: State[]): State[] {
  if (states.length <= MOST_STATES) return states;
  const first = states[0].cost;
  const width = (states.at(-1)!.cost - first) / MOST_STATES;
  // The last of each stretch loses least; the cheapest of all stays, since it alone may leave room for what follows.
  return states.filter(({ cost }, i) => i === 0 || i === states.length - 1 || Math.floor((cost - first) / width) !== Math.floor((states[i + 1].cost - first) / width));
}
