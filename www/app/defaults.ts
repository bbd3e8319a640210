import type { PlanOptions } from '../engine/protocol/plan'
import type { CalibrationOptions } from '../engine/protocol/similarity'
import type { TextOptions } from '../engine/protocol/text'
import type { StoredAs } from '../words/types'

export const CALIBRATION: Readonly<CalibrationOptions> = {
  text: null,
  text_name: null,
  samples: 128,
  tokens: 48,
  draw: 'first',
  points: 'last',
  metric: 'mi',
  dims: 2,
  time: 1,
  density: 0,
  normalise: 'rms',
  bandwidth: null,
  neighbours: 5,
}

/** As the engine has them. The page begins with the method of `RECOMMENDED` in `methods.ts` where the engine knows it. */
export const PLAN: Readonly<PlanOptions> = {
  remove: 1,
  min_similarity: null,
  selection: 'mka',
  operator: 'average',
  alpha: 'similarity',
  one_shot: false,
  release_massive: false,
  keep_first: false,
  keep_last: false,
  longest_run: null,
  candidates: null,
  seed: 0,
  locked: [],
  absorb: [],
}

export const EVALUATION: Readonly<TextOptions> = { text: null, text_name: null, samples: 32, tokens: 128 }

export const HUB = 'https://huggingface.co'

export const WRITE: Readonly<StoredAs> = { dtype: 'keep', max_shard_bytes: 5e9, container: 'safetensors' }
