import { controlOf, workForEver, type Joining, type Kernel } from './arena'

/** A thread of the pool: starts the kernel in the memory that threads share, says that it is there, and works. */
self.addEventListener('message', ({ data }: MessageEvent<Joining>) => void join(data))

async function join({ memory, kernel, stack }: Joining): Promise<void> {
  const { instance } = await WebAssembly.instantiate(kernel as BufferSource, { env: { memory } })
  const stackPointer = instance.exports.__stack_pointer as WebAssembly.Global
  stackPointer.value = stack
  self.postMessage('joined')
  workForEver(controlOf(memory), instance.exports as unknown as Kernel)
}
