import { EngineClient, type WorkerPort } from './client'

/** An engine in a worker of its own, which starts with the first call. */
export function newEngine(): EngineClient {
  return new EngineClient(() => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }) as WorkerPort)
}
