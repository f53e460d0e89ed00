import fc from "fast-check";
import { expect, it } from "vitest";
import type { LinearAlgebra } from "#src/engine/engine.js";
import { addSlice, divergenceOf, noPredictions, perplexityOf } from "#src/evaluate/predictions.js";

const noLinearAlgebra: LinearAlgebra = { gemm: () => Promise.reject(new Error("not needed")) };

/** Straight from the definitions, on whole rows. */
function bruteForce(model: number[][], reference: number[][], targets: number[]) {
  const logSoftmax = (row: number[]): number[] => {
    const max = Math.max(...row);
    const log = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
    return row.map((x) => x - log);
  };
  const argmax = (row: number[]): number => row.indexOf(Math.max(...row));
  const rows = targets.map((target, i) => ({ target, q: logSoftmax(model[i]), p: logSoftmax(reference[i]), agree: argmax(model[i]) === argmax(reference[i]) })).filter(({ target }) => target >= 0);
  const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    perplexity: Math.exp(mean(rows.map(({ target, q }) => -q[target]))),
    kl: mean(rows.map(({ p, q }) => p.reduce((sum, lp, j) => sum + Math.exp(lp) * (lp - q[j]), 0))),
    top1: mean(rows.map(({ agree }) => (agree ? 1 : 0))),
  };
}

it("finds the same slice by slice as the definitions on whole rows", async () => {
  const logit = fc.float({ min: -80, max: 80, noNaN: true });
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 12 }).chain((vocabulary) => fc.record({
        model: fc.array(fc.array(logit, { minLength: vocabulary, maxLength: vocabulary }), { minLength: 2, maxLength: 5 }),
        seed: fc.integer({ min: 0, max: 1000 }), cut: fc.integer({ min: 1, max: vocabulary }),
      })),
      async ({ model, seed, cut }) => {
        const vocabulary = model[0].length;
        const reference = model.map((row, i) => row.map((x, j) => Math.fround(x + Math.sin(seed + 7 * i + j))));
        const targets = model.map((_, i) => (i === 1 ? -1 : (seed + i) % vocabulary));
        let predictions = noPredictions(Int32Array.from(targets), true);
        for (let first = 0; first < vocabulary; first += cut) {
          const width = Math.min(cut, vocabulary - first);
          const part = (rows: number[][]) => Float32Array.from(rows.flatMap((row) => row.slice(first, first + width)));
          ({ predictions } = (await addSlice(noLinearAlgebra, predictions, { first, width, model: part(model), reference: part(reference) })).result);
        }
        const expected = bruteForce(model, reference, targets);
        const { perplexity, tokens } = perplexityOf([predictions], "model");
        const { klDivergence, top1Agreement } = divergenceOf([predictions]);
        expect(tokens).toBe(model.length - 1);
        expect(Math.log(perplexity)).toBeCloseTo(Math.log(expected.perplexity), 9);
        expect(klDivergence).toBeCloseTo(expected.kl, 9);
        expect(top1Agreement).toBe(expected.top1);
      },
    ),
    { numRuns: 200 },
  );
});

it("finds no divergence between a model and itself", async () => {
  const logits = Float32Array.from({ length: 40 }, (_, i) => 5 * Math.sin(i));
  const { predictions } = (await addSlice(noLinearAlgebra, noPredictions(Int32Array.of(3, 1, 0, 9), true), { first: 0, width: 10, model: logits, reference: logits.slice() })).result;
  expect(divergenceOf([predictions])).toMatchObject({ top1Agreement: 1 });
  expect(divergenceOf([predictions]).klDivergence).toBeCloseTo(0, 12);
});
