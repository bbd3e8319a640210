/** Checks of a comparison of methods. */
import type { Candidate, CompareRow, StoredOriginal, Verdict } from '../../engine/protocol/compare'
import type { Comparison, ModelSpeed, Speeds } from '../../charts/speed'
import type { NamedMethod } from '../../engine/protocol/method'
import type { NumberType, WriteOptions } from '../../engine/protocol/output'
import { type Check, flag, integer, list, nullable, number, otherwise, record, text } from './check'
import {
  count,
  device,
  imatrixFile,
  layers,
  modelReport,
  numberType,
  operator,
  quality,
  selection,
  share,
  textReport,
  texts,
  writeOptions,
} from './facts'

/** KL of each sequence; what overflowed there is nothing in JSON. */
const bySequence: Check<number[]> = (value, at) => list(nullable(number()))(value, at).map(kl => kl ?? NaN)

const row = record<CompareRow>({
  method: text,
  selection,
  operator,
  dtype: otherwise<NumberType | undefined>(numberType, undefined),
  removed: count,
  layers,
  groups: list(list(count)),
  quality: nullable(quality),
  kl_by_sequence: otherwise<number[] | undefined>(bySequence, undefined),
  parameters: count,
  bytes: count,
  seconds: number(0),
  error: nullable(text),
  warnings: texts,
})

const original = record<StoredOriginal>({
  dtype: numberType,
  quality,
  kl_by_sequence: bySequence,
  bytes: count,
  seconds: number(0),
})

const candidate = nullable(record<Candidate>({ method: text, dtype: numberType, layers, bytes: count, kl: number() }))

const speeds = record<Speeds>({
  prompt_tokens: count,
  generated_tokens: count,
  rounds: integer(1),
  models: list(
    record<ModelSpeed>({
      method: text,
      dtype: numberType,
      layers,
      prompt: number(0),
      generation: number(0),
      cache: nullable(count),
      noise: share,
    }),
  ),
})

const verdict = record<Verdict>({
  size: count,
  merged: candidate,
  unmerged: candidate,
  difference: nullable(record({ difference: number(), margin: number(0) })),
  sentence: text,
})

export const compareReport = record<Comparison>({
  model: modelReport,
  calibration: textReport,
  evaluation: textReport,
  overlap: share,
  original: quality,
  parameters: count,
  bytes: count,
  seed: count,
  output: otherwise<WriteOptions | undefined>(writeOptions, undefined),
  imatrix: imatrixFile,
  originals: otherwise<StoredOriginal[] | undefined>(list(original), undefined),
  rows: list(row),
  verdicts: otherwise<Verdict[] | undefined>(list(verdict), undefined),
  speeds: otherwise<Speeds | undefined>(speeds, undefined),
  cancelled: flag,
  warnings: texts,
  device,
  seconds: number(0),
  peak_memory_bytes: number(0),
})

export const namedMethod = record<NamedMethod>({
  name: text,
  title: text,
  selection,
  operator,
  one_shot: flag,
  longest_run: otherwise(nullable(count), null),
  candidates: otherwise(nullable(count), null),
  about: text,
})
