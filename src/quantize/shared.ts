/** A new array in shared memory: several threads read it at once. */
export function shared<A>(type: { new (buffer: SharedArrayBuffer): A; readonly BYTES_PER_ELEMENT: number }, length: number): A {
  return new type(new SharedArrayBuffer(length * type.BYTES_PER_ELEMENT));
}

/** A sum over tokens as the mean of one, in shared memory. */
export function sharedMean(sum: Float32Array, tokens: number): Float32Array<SharedArrayBuffer> {
  const mean = shared<Float32Array<SharedArrayBuffer>>(Float32Array, sum.length);
  for (let i = 0; i < sum.length; i++) mean[i] = sum[i] / tokens;
  return mean;
}
