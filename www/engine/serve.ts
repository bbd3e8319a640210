import { toEngineError } from './errors'
import type { CallName, Calls, FromWorker, LocalFile, Port, Request, ToWorker } from './messages'
import type { DevicePreference } from './protocol/device'
import type { Observe, WasmEngine } from './protocol/engine'
import { Gate } from './hold'
import { jobFolder, newJob, removeJob } from './jobs'
import { metered, type Moved } from './meter'
import { hasStorage, openKept, PrivateParts } from './parts'
import { FileSource } from './source'
import { sourcesOf } from './sources'
import { packJob, writeTo } from './write'

const NO_STORAGE =
  'finished layers are not kept, because this browser gives the page no storage (a private window, or blocked)'

/** Half of what the memory of a page can hold at once, in bytes. */
const MOST_IMATRIX = 1 << 30

/**
 * Answers the page's calls with an engine, one at a time: the engine is a single mutable thing, and a
 * second call into it while the first awaits would be refused by wasm-bindgen.
 */
export function serve(
  port: Port<FromWorker, ToWorker>,
  create: (preference: DevicePreference, observe: Observe, unusable?: string) => Promise<WasmEngine>,
  demoWeights: () => Promise<Uint8Array>,
): void {
  const cancelled = new Set<number>()
  let engine: WasmEngine | null = null
  let queue: Promise<void> = Promise.resolve()
  /** The call that is being answered: requests to servers end with it at once, and not at the next event. */
  let current = { id: 0, stop: new AbortController() }
  /** Gives up what the open model keeps in the private storage. */
  let release = async () => {}
  /** Job whose folder holds finished layers of the open model until they are needed, where there is one. */
  let scratch: string | null = null
  const gate = new Gate(() => port.postMessage({ held: true }))
  let moved: Moved = { read: 0, written: 0 }

  port.onmessage = ({ data }) => {
    if ('hold' in data) gate.hold(data.hold)
    else if ('cancel' in data) {
      cancelled.add(data.cancel)
      gate.release()
      if (data.cancel === current.id) current.stop.abort()
    } else queue = queue.then(() => answer(data))
  }

  async function answer(request: Request): Promise<void> {
    const { id } = request
    current = { id, stop: new AbortController() }
    moved = { read: 0, written: 0 }
    const observe: Observe = async event => {
      port.postMessage({ id, event, moved: { ...moved } })
      await macrotask()
      await gate.pass(() => cancelled.has(id))
      return cancelled.has(id)
    }
    try {
      if (cancelled.has(id)) throw { kind: 'cancelled', message: 'Cancelled; nothing was written.' }
      port.postMessage({ id, result: await perform(request, observe) })
    } catch (thrown) {
      const error = toEngineError(thrown)
      // Where the device is lost, the browser says so itself within a moment, and better than the engine can.
      if (error.kind === 'device') await new Promise(resolve => setTimeout(resolve, 200))
      port.postMessage({ id, error })
    } finally {
      cancelled.delete(id)
    }
  }

  async function perform(request: Request, observe: Observe): Promise<Calls[CallName]['result']> {
    if (request.call === 'create') {
      engine = await create(request.args[0], observe, request.args[1])
      return engine.device()
    }
    if (request.call === 'pack') return packJob(request.args[0], request.args[1], observe)
    if (!engine) throw { kind: 'usage', message: 'The engine has not been started; reload the page.' }
    switch (request.call) {
      case 'openDemo':
        return openDemo(engine)
      case 'open':
        return open(engine, request.args, observe)
      case 'useImatrix':
        return useImatrix(engine, request.args[0])
      case 'forgetImatrix':
        return engine.forgetImatrix()
      case 'imatrixOf':
        return engine.imatrixOf(request.args[0], request.args[1], observe) as Promise<Uint8Array<ArrayBuffer>>
      case 'estimate':
        return engine.estimate(request.args[0])
      case 'estimatePlan':
        return engine.estimatePlan(...request.args)
      case 'estimateCompare':
        return engine.estimateCompare(...request.args)
      case 'sequencesWithin':
        return engine.sequencesWithin(...request.args)
      case 'similarity':
        return similarity(engine, request.args, observe)
      case 'mapLayers':
        return engine.mapLayers(request.args[0])
      case 'checkOutput':
        return engine.checkOutput(request.args[0])
      case 'plan':
        return plan(engine, request.args, observe)
      case 'sizeRange':
        return engine.sizeRange(...request.args)
      case 'estimateSize':
        return engine.estimateSize(...request.args)
      case 'bestOfSize':
        return bestOfSize(engine, request.args, observe)
      case 'similarityBy':
        return engine.similarityBy(request.args[0], observe)
      case 'measure':
        return measure(engine, request.args, observe)
      case 'heal':
        return heal(engine, request.args, observe)
      case 'calibrationCurve':
        return engine.calibrationCurve(request.args[0], request.args[1], observe, request.args[2], request.args[3])
      case 'methods':
        return engine.methods()
      case 'compare':
        return compare(engine, request.args, observe)
      case 'write':
        return writeTo(engine, request.args, observe, () => moved)
      case 'builtinText':
        return engine.builtinText()
      case 'builtinEvaluation':
        return engine.builtinEvaluation()
    }
  }

  async function similarity(
    engine: WasmEngine,
    [options, keeping = 'off']: Calls['similarity']['args'],
    observe: Observe,
  ) {
    if (keeping === 'off') return engine.similarity(options, observe)
    const kept = await openKept(keeping === 'anew')
    if (!kept) await observe({ kept: { layers: 0, bytes: 0, trouble: NO_STORAGE } })
    return lending(kept, store => engine.similarity(options, observe, store))
  }

  async function plan(engine: WasmEngine, [options, output, judge, keeps]: Calls['plan']['args'], observe: Observe) {
    return lending(keeps ? await openKept(false) : null, store => engine.plan(options, observe, output, judge, store))
  }

  async function bestOfSize(
    engine: WasmEngine,
    [size, options, output, judge, keeps]: Calls['bestOfSize']['args'],
    observe: Observe,
  ) {
    return lending(keeps ? await openKept(false) : null, store =>
      engine.bestOfSize(size, options, observe, output, judge, store),
    )
  }

  async function measure(engine: WasmEngine, [made, output, judge, keeps]: Calls['measure']['args'], observe: Observe) {
    return lending(keeps ? await openKept(false) : null, store => engine.measure(made, observe, output, judge, store))
  }

  async function heal(
    engine: WasmEngine,
    [plan, output, options, judge, keeps]: Calls['heal']['args'],
    observe: Observe,
  ) {
    return lending(keeps ? await openKept(false) : null, store =>
      engine.heal(plan, output, options, observe, judge, store),
    )
  }

  async function compare(engine: WasmEngine, [options, keeps]: Calls['compare']['args'], observe: Observe) {
    return lending(keeps ? await openKept(false) : null, store => engine.compare(options, observe, store))
  }

  async function open(engine: WasmEngine, [files, name]: Calls['open']['args'], observe: Observe) {
    const opened = await sourcesOf(files, () => current.stop.signal, observe)
    try {
      const report = await engine.open(
        opened.sources.map(source => metered(source, () => moved)),
        name,
      )
      await keep(opened.release)
      await spill(engine)
      return report
    } catch (error) {
      await opened.release()
      throw error
    }
  }

  async function openDemo(engine: WasmEngine) {
    const report = await engine.openDemo(await demoWeights())
    await keep(async () => {})
    await spill(engine)
    return report
  }

  /** Finished layers wait in the private storage, where this browser has one; those of the model before are needed no more. */
  async function spill(engine: WasmEngine): Promise<void> {
    if (!(await hasStorage())) return
    if (scratch) await removeJob(scratch)
    const job = (scratch = newJob())
    engine.spillTo(new PrivateParts(() => jobFolder(job)))
  }

  /** The model before this one is read no more. */
  async function keep(releaseNext: () => Promise<void>): Promise<void> {
    const before = release
    release = releaseNext
    await before()
  }
}

/** Files of importances are read whole: they have a number for each column of a model, and not for each weight. */
async function useImatrix(engine: WasmEngine, { name, file }: LocalFile) {
  if (file.size > MOST_IMATRIX)
    throw {
      kind: 'limit',
      message: `${name}: ${file.size} bytes are more than an importance matrix has that fits into this page; give the file of one, or use the command line.`,
    }
  const source = new FileSource(name, file)
  return engine.useImatrix(name, await source.read(0, source.size))
}

/** Lends what the page keeps of its run to `work`, where it keeps anything. */
async function lending<T>(
  kept: PrivateParts | null,
  work: (store: PrivateParts | undefined) => Promise<T>,
): Promise<T> {
  try {
    return await work(kept ?? undefined)
  } finally {
    kept?.end()
  }
}

/** Lets a waiting `cancel` message be handled. A message, because nested timers are held back 4 ms. */
function macrotask(): Promise<void> {
  return new Promise(resolve => {
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      resolve()
    }
    port2.postMessage(null)
  })
}
