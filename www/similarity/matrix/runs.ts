/** Similarities to compare the present ones with: earlier runs of this page, and files. */
import { areKinds } from '../../charts/kinds'
import { Failure } from '../../engine/errors'
import type { Metric, SimilarityReport } from '../../engine/protocol/similarity'
import { METRICS } from '../../words/metrics'
import { jsonOf, similarities } from '../../share'
import type { Rows } from './words'

export interface OtherRun {
  id: string
  /** "stories-planted-12L, cosine, built-in text". */
  name: string
  model: string
  metric: Metric
  layers: number
  /** What each layer is, where they are not all alike. */
  kinds: readonly string[] | undefined
  similarity: Rows
}

/** Runs that the page remembers; the oldest goes first. A matrix of 128 layers is 130 kB. */
const KEPT = 8
const LARGEST_FILE = 64e6

export function runOf(report: SimilarityReport, id: string): OtherRun {
  const { model, metric, layers, similarity, text, options } = report
  const how = `${METRICS[metric].word}, ${text.name}, ${text.sequences} × ${text.tokens_per_sequence} tokens${options.points === 'last' ? '' : `, ${options.points}`}`
  return { id, name: `${model.name}: ${how}`, model: model.name, metric, layers, kinds: model.kinds, similarity }
}

/** The list with a run added; one made with the same settings is replaced. */
export function remembered(runs: readonly OtherRun[], run: OtherRun): OtherRun[] {
  return [...runs.filter(other => other.id !== run.id), run].slice(-KEPT)
}

/** A similarity report that was saved here, or printed by `laminate similarity --json`. */
export async function readRun(file: Pick<File, 'name' | 'size' | 'text'>): Promise<OtherRun> {
  const wrong = (why: string) => new Failure('format', `${file.name}: ${why}`)
  const { similarity, metric, model, text } = ((await jsonOf(file, LARGEST_FILE)) ?? {}) as Partial<SimilarityReport>
  if (!similarity)
    throw wrong('there is no “similarity” in it. Open what “Save JSON” or “laminate similarity --json” gave.')
  const rows = similarities(similarity, [file.name, 'similarity'])
  const known = typeof metric === 'string' && metric in METRICS ? metric : null
  if (!known) throw wrong('it does not say by which metric its similarities are; “metric” is missing or unknown.')
  const name = typeof model?.name === 'string' ? model.name : 'unnamed model'
  return {
    id: `file ${file.name} ${name} ${known}`,
    name: `${file.name}: ${name}, ${METRICS[known].word}${typeof text?.name === 'string' ? `, ${text.name}` : ''}`,
    model: name,
    metric: known,
    layers: rows.length,
    similarity: rows,
    kinds: areKinds(model?.kinds, rows.length) ? model.kinds : undefined,
  }
}
