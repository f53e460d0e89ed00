/** The npm package `safetensors` 0.0.1 comes without types. */
declare module "safetensors" {
  export class SafeTensor {
    constructor(file: Uint8Array<ArrayBuffer>);
    readonly metadata: ReadonlyMap<string, { readonly dtype: string; readonly shape: number[] }>;
    getTensor(name: string): Uint8Array<ArrayBuffer>;
  }
}
