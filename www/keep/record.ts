import { CALIBRATION } from '../app/defaults'
import type { ModelReport } from '../engine/protocol/model'
import type { PlanOptions, PlanReport } from '../engine/protocol/plan'
import type { CalibrationOptions, SimilarityReport } from '../engine/protocol/similarity'
import type { SizeSearch } from '../engine/protocol/sizing'
import type { TextOptions } from '../engine/protocol/text'
import type { RemoteFile } from '../engine/messages'
import type { Opened } from '../engine/source'
import type { Costs, Made } from '../app/made'
import type { Goal } from '../charts/costs'
import { keyOf } from '../app/keys'
import type { OpenImatrix } from '../app/state.svelte'

/** A model, so that it can be found again. Never a token, and of a file on disk never its contents. */
export type KeptOrigin =
  | { kind: 'demo' }
  | {
      kind: 'local'
      folder: string | undefined
      files: { name: string; size: number }[]
      handles: FileSystemHandle[] | null
    }
  /** `complete` where no token is needed to read it again. */
  | { kind: 'remote'; folder: string | undefined; files: RemoteFile[]; complete: boolean }

/** The last run of this browser: enough to go on with it, and to show what it found. */
export interface KeptRun {
  version: 1
  origin: KeptOrigin
  model: ModelReport
  calibration: CalibrationOptions
  /** Layers from the first one on that are kept in the private storage; found there, and not stored here. */
  layers: number
  /** Not finished: it is going on, or was interrupted. */
  pending: boolean
  at_ms: number
  maps: Made<SimilarityReport, CalibrationOptions> | null
  plan: Made<PlanReport, PlanOptions> | null
  /** Of a plan that was begun and has no result yet. */
  planning?: PlanOptions | null
  /** The text that fitted plans are judged on; not there in runs of earlier versions. */
  judge?: TextOptions
  /** The size that was asked for and how its best model was found; not there where none was. */
  sized?: { size: number; search: SizeSearch | null }
  /** How far one can go, as far as that was measured, and what was chosen then; not there where nothing was. */
  far?: { costs: Costs; goal: Goal; options: PlanOptions; importances: boolean }
  /** Importances from a file, which the browser copies; not there where they were collected. */
  imatrix?: OpenImatrix
}

export function keptOrigin(origin: 'demo' | Opened): KeptOrigin {
  if (origin === 'demo') return { kind: 'demo' }
  const { folder, files, handles } = origin
  const remote = files.filter((file): file is RemoteFile => 'url' in file)
  if (remote.length > 0) {
    const open = remote.map(file => ({ ...file, token: undefined }))
    return {
      kind: 'remote',
      folder,
      files: open,
      complete: remote.length === files.length && remote.every(({ token }) => !token),
    }
  }
  const local = files.flatMap(file => ('file' in file ? [{ name: file.name, size: file.file.size }] : []))
  return { kind: 'local', folder, files: local, handles: handles ?? null }
}

/** The same model, by names and sizes or by addresses. The engine compares what is in it before it goes on. */
export function isSameModel(a: KeptOrigin, b: KeptOrigin): boolean {
  return identity(a) === identity(b)
}

function identity(origin: KeptOrigin): string {
  if (origin.kind === 'demo') return 'demo'
  const names =
    origin.kind === 'remote'
      ? origin.files.map(({ url }) => url)
      : origin.files.map(({ name, size }) => `${name} ${size}`)
  return `${origin.kind} ${names.sort().join('\n')}`
}

/** What decides which states a run sees: settings of the map and of the comparison do not. */
export function captureKey(origin: KeptOrigin, { text, samples, tokens, draw, points }: CalibrationOptions): string {
  return JSON.stringify([identity(origin), text, samples, tokens, draw, points])
}

const DATABASE = 'laminate'
const STORE = 'kept'
const KEY = 'run'

/** What is kept, by this browser alone; null where nothing is or it cannot be read. */
export async function readKept(): Promise<KeptRun | null> {
  const found = (await within('readonly', store => store.get(KEY)).catch(() => null)) as KeptRun | null | undefined
  return found?.version === 1 ? withDraw(found) : null
}

/** Earlier versions took the first parts of a text, and did not say so: their results stay as fresh as they were. */
export function withDraw(run: KeptRun): KeptRun {
  if ('draw' in run.calibration) return run
  const complete = (options: CalibrationOptions): CalibrationOptions => ({ ...CALIBRATION, ...options })
  const maps = run.maps && { ...run.maps, options: complete(run.maps.options), key: keyOf(complete(run.maps.options)) }
  const plan = run.plan && { ...run.plan, key: keyOf([maps?.key, ...(JSON.parse(run.plan.key) as unknown[]).slice(1)]) }
  return { ...run, calibration: complete(run.calibration), maps, plan }
}

/** False where the browser keeps nothing. */
export function writeKept(run: KeptRun): Promise<boolean> {
  return within('readwrite', store => store.put(run, KEY)).then(
    () => true,
    () => false,
  )
}

export function removeKept(): Promise<boolean> {
  return within('readwrite', store => store.delete(KEY)).then(
    () => true,
    () => false,
  )
}

async function within<T>(mode: IDBTransactionMode, use: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await new Promise<IDBDatabase>((resolve, reject) => {
    const opening = indexedDB.open(DATABASE, 1)
    opening.onupgradeneeded = () => void opening.result.createObjectStore(STORE)
    opening.onsuccess = () => resolve(opening.result)
    opening.onerror = () => reject(opening.error)
  })
  try {
    return await new Promise<T>((resolve, reject) => {
      const transaction = database.transaction(STORE, mode)
      const request = use(transaction.objectStore(STORE))
      transaction.oncomplete = () => resolve(request.result)
      transaction.onabort = transaction.onerror = () => reject(transaction.error)
    })
  } finally {
    database.close()
  }
}
