import { controlOf, startKernel, workForEver, type Joining } from './arena'

/** A thread of the pool: starts the kernel in the memory that threads share, says that it is there, and works. */
self.addEventListener('message', ({ data }: MessageEvent<Joining>) => void join(data))

async function join(joining: Joining): Promise<void> {
  const kernel = await startKernel(joining)
  self.postMessage('joined')
  workForEver(controlOf(joining.memory), kernel)
}
