/** Bytes of a device's memory in buffers, whoever makes them on it: how many there are, and were at the most. */
export class DeviceMemory {
  #held = 0;
  #peak = 0;

  constructor(device: GPUDevice) {
    const create = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => {
      const buffer = create(descriptor);
      this.#held += descriptor.size;
      this.#peak = Math.max(this.#peak, this.#held);
      const destroy = buffer.destroy.bind(buffer);
      let counted: number = descriptor.size;
      buffer.destroy = () => {
        this.#held -= counted;
        counted = 0;
        return destroy();
      };
      return buffer;
    };
  }

  get peak(): number {
    return this.#peak;
  }
}
