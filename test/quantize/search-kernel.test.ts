import { expect, it } from "vitest";
import { searchViews, sumErrors } from "#src/quantize/search-kernel.js";
import { roundHalfEven } from "#src/quantize/rounding.js";
import { gaussians, generator } from "./random.js";

it.each([[1, 4], [5, 8], [64, 60], [128, 92]])("the kernel of the search sums what plain loops in float32 sum, to the bit: %i weights, %i grids", (size, candidates) => {
  const random = generator(size);
  const f = Math.fround;
  const views = searchViews(size);
  views.w.set(gaussians(size, random));
  views.h.set(gaussians(size, random).map(Math.abs));
  const scales = gaussians(candidates, random, 0.3);
  const offsets = gaussians(candidates, random, 0.1);
  views.grids.set([...scales, ...scales.map((s) => 1 / s), ...scales.map(() => -8), ...scales.map(() => 7), ...offsets]);
  sumErrors(views, candidates);
  const expected = scales.map((s, i) => {
    let sum = 0;
    views.w.forEach((w, j) => {
      const x = f(w - offsets[i]);
      const d = f(x - f(s * Math.max(-8, Math.min(7, roundHalfEven(f(x * f(1 / s)))))));
      sum = f(sum + f(views.h[j] * f(d * d)));
    });
    return sum;
  });
  expect(views.sums.slice(0, candidates)).toEqual(expected);
});
