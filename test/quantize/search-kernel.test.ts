import { expect, it } from "vitest";
import { searchViews, sumErrors } from "#src/quantize/search-kernel.js";
import { roundHalfEven } from "#src/quantize/rounding.js";
import { gaussians, generator } from "./random.js";

it.each([[1, 4], [5, 7], [64, 60], [128, 93]])("the kernel of the search sums what plain loops in float32 sum, to the bit: %i weights, %i grids", (size, count) => {
  const random = generator(size);
  const f = Math.fround;
  const unit = f(1.7);
  const views = searchViews(size);
  const { candidates } = views;
  views.w.set(gaussians(size, random));
  views.h.set(gaussians(size, random).map(Math.abs));
  candidates.count = 0;
  for (let i = 0; i < count; i++) candidates.add(gaussians(1, random, 0.3)[0], i % 9, gaussians(1, random, 0.1)[0]);
  sumErrors(views, 15, unit);
  const expected = Float32Array.from({ length: count }, (_, i) => {
    const s = f(candidates.scales[i] * unit);
    const zero = candidates.zeros[i];
    let sum = 0;
    views.w.forEach((w, j) => {
      const x = f(w - f(candidates.offsets[i] * unit));
      const d = f(x - f(s * Math.max(0 - zero, Math.min(15 - zero, roundHalfEven(f(x * f(1 / s)))))));
      sum = f(sum + f(views.h[j] * f(d * d)));
    });
    return sum;
  });
  expect(views.sums.slice(0, count)).toEqual(expected);
});
