/** Checks of what every report of the engine says: the model, the device, the text, the quality, and what was asked for. */
import { LONGEST_KIND, MOST_KINDS } from '../../charts/kinds'
import type { DeviceReport } from '../../engine/protocol/device'
import type { ImatrixFile } from '../../engine/protocol/imatrix'
import type { ExpertSelection, Operator, Selection } from '../../engine/protocol/method'
import type { ModelReport } from '../../engine/protocol/model'
import type { NumberType, WriteOptions } from '../../engine/protocol/output'
import type { Alpha, PlanOptions } from '../../engine/protocol/plan'
import type { Quality } from '../../engine/protocol/quality'
import type { CalibrationOptions, PointRule } from '../../engine/protocol/similarity'
import type { Draw, TextReport } from '../../engine/protocol/text'
import { EXPERT_SELECTIONS, OPERATORS, SELECTIONS } from '../../words/methods'
import { METRIC_NAMES } from '../../words/metrics'
import { QUANTISED } from '../../words/types'
import {
  type Check,
  either,
  flag,
  integer,
  list,
  matching,
  maybeInfinite,
  MOST,
  nullable,
  number,
  oneOf,
  openRecord,
  otherwise,
  type Place,
  record,
  refuse,
  text,
} from './check'

export const count = integer(0)
export const layers = integer(1, MOST.layers)
export const share = number(0, 1)
export const texts = otherwise(list(text), [])
export const numberType = oneOf<NumberType>('keep', 'f32', 'f16', 'bf16', ...QUANTISED)
export const selection = oneOf(...(Object.keys(SELECTIONS) as Selection[]))
export const operator = oneOf(...(Object.keys(OPERATORS) as Operator[]))
export const container = oneOf('safetensors', 'gguf')

export const device = record<DeviceReport>({
  kind: oneOf('gpu', 'software-gpu', 'cpu'),
  name: text,
  reason: text,
  threads: otherwise<number | undefined>(integer(1), undefined),
  alone: otherwise<string | undefined>(text, undefined),
  max_binding_bytes: number(0),
})

const kind: Check<string> = (value, at) => {
  const found = text(value, at)
  return found.length > 0 && found.length <= LONGEST_KIND
    ? found
    : refuse(at, `has ${found.length} letters and must have from 1 to ${LONGEST_KIND}`)
}

const modelFields = record<ModelReport>({
  name: text,
  architecture: text,
  layers,
  hidden_size: count,
  intermediate_size: count,
  heads: count,
  kv_heads: count,
  head_dim: count,
  vocab_size: count,
  context: count,
  parameters: count,
  parameters_per_layer: count,
  bytes: count,
  bytes_per_layer: count,
  dtype: text,
  dtypes: texts,
  tied_head: flag,
  sliding_window: nullable(count),
  container: otherwise(container, 'safetensors'),
  files: texts,
  kinds: otherwise<string[] | undefined>(list(kind, { most: MOST.layers }), undefined),
  experts: otherwise<[number, number] | undefined>(list(count, { length: 2 }) as Check<[number, number]>, undefined),
})

/** Kinds of layers are in no result of earlier versions. */
export const modelReport: Check<ModelReport> = (value, at) => {
  const { kinds, ...model } = modelFields(value, at)
  if (!kinds?.length) return model
  const here: Place = [at[0], `${at[1]}.kinds`]
  if (kinds.length !== model.layers) refuse(here, `has ${kinds.length} entries for ${model.layers} layers`)
  const different = new Set(kinds).size
  if (different > MOST_KINDS) refuse(here, `names ${different} kinds of layers and at most ${MOST_KINDS} are shown`)
  return { ...model, kinds }
}

export const textReport = record<TextReport>({
  name: text,
  sequences: count,
  tokens_per_sequence: count,
  tokens_scored: count,
})

export const calibrationPoints = matching<PointRule>(/^(last|mean|tokens:\d+)$/, 'last, mean or tokens:4')

/** A text of somebody's own is not part of any result; only its name is. */
export const calibration = openRecord<CalibrationOptions>({
  text: () => null,
  text_name: nullable(text),
  samples: count,
  tokens: count,
  draw: otherwise(matching<Draw>(/^(first|spread|random:\d+)$/, 'first, spread or random:1'), 'first'),
  points: matching<PointRule>(/^(last|mean|tokens:\d+)$/, 'last, mean or tokens:4'),
  metric: oneOf(...METRIC_NAMES),
  dims: integer(1),
  time: number(0),
  density: number(),
  normalise: oneOf('rms', 'none'),
  bandwidth: nullable(number(0)),
  neighbours: integer(1),
})

export const planOptions = openRecord<PlanOptions>({
  remove: nullable(count),
  min_similarity: nullable(number()),
  selection: otherwise(selection, 'mka'),
  operator: otherwise(operator, 'average'),
  alpha: either<'similarity' | 'search', number>(oneOf('similarity', 'search'), share) as Check<Alpha>,
  one_shot: otherwise(flag, false),
  release_massive: otherwise(flag, false),
  keep_first: otherwise(flag, false),
  keep_last: otherwise(flag, false),
  longest_run: otherwise(nullable(count), null),
  candidates: otherwise(nullable(count), null),
  seed: otherwise(count, 0),
  locked: otherwise(list(count), []),
  absorb: otherwise(list(count), []),
  remove_experts: otherwise<number | undefined>(count, undefined),
  expert_selection: otherwise<ExpertSelection | undefined>(
    oneOf(...(Object.keys(EXPERT_SELECTIONS) as ExpertSelection[])),
    undefined,
  ),
})

export const writeOptions: Check<WriteOptions> = (value, at) => {
  const {
    container: kind,
    name,
    pack,
    rounding,
    ...rest
  } = openRecord({
    dtype: numberType,
    max_shard_bytes: number(1),
    container: nullable(container),
    name: nullable(text),
    requantise: otherwise<'all' | 'computed' | undefined>(oneOf('all', 'computed'), undefined),
    importances: otherwise<boolean | undefined>(flag, undefined),
    pack: otherwise<WriteOptions['pack']>(
      oneOf(
        'int4',
        'int4-g128',
        'int4-g64',
        'int4-g32',
        'gptq-int4',
        'gptq-int4-g128',
        'gptq-int4-g64',
        'gptq-int4-g32',
        'int8',
      ),
      undefined,
    ),
    rounding: otherwise<WriteOptions['rounding']>(oneOf('nearest', 'gptq', 'awq', 'smoothquant'), undefined),
  })(value, at)
  return {
    ...rest,
    container: kind ?? 'safetensors',
    ...(pack === undefined ? {} : { pack }),
    ...(rounding === undefined ? {} : { rounding }),
    ...(name === null ? {} : { name }),
  }
}

/** Absent where importances were collected, or none were used. */
export const imatrixFile = otherwise<ImatrixFile | undefined>(
  record<ImatrixFile>({ name: text, hash: text }),
  undefined,
)

export const quality = record<Quality>({
  perplexity: maybeInfinite,
  kl: nullable(number()),
  top1_agreement: nullable(share),
  collapsed: flag,
})
