import type { CalibrationOptions, PlanOptions, TextOptions, WriteOptions } from './engine/protocol'

export const CALIBRATION: Readonly<CalibrationOptions> = {
  text: null, text_name: null, samples: 128, tokens: 48, points: 'last', metric: 'mi', dims: 2, time: 1,
  density: 0, normalise: 'rms', bandwidth: null, neighbours: 5,
}

export const PLAN: Readonly<PlanOptions> = {
  remove: 1, min_similarity: null, selection: 'mka', operator: 'average', alpha: 'similarity', one_shot: false,
  release_massive: false, keep_first: false, keep_last: false, longest_run: null, candidates: null, seed: 0, locked: [], absorb: [],
}

export const EVALUATION: Readonly<TextOptions> = { text: null, text_name: null, samples: 32, tokens: 128 }

export const HUB = 'https://huggingface.co'

export const WRITE: Readonly<WriteOptions> = { dtype: 'keep', max_shard_bytes: 5e9, container: 'safetensors' }
