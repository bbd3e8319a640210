/** What the page calls the settings that only the switch "Advanced" shows, each as the label beside its control. */
import type { WriteOptions } from '../engine/protocol/output'
import type { PlanOptions } from '../engine/protocol/plan'
import type { CalibrationOptions } from '../engine/protocol/similarity'
import type { TextOptions } from '../engine/protocol/text'

export const CALIBRATION_NAMES = {
  samples: 'Sequences',
  tokens: 'Tokens in each',
  draw: 'Sample',
  points: 'Points',
  metric: 'Similarity by',
  dims: 'Map dimensions',
  time: 'Diffusion time',
  density: 'Density exponent',
  neighbours: 'Neighbours',
  normalise: 'Scale of states',
  bandwidth: 'Bandwidth',
} as const satisfies Partial<Record<keyof CalibrationOptions, string>>

export const PLAN_NAMES = {
  selection: 'Which layers',
  operator: 'What becomes of them',
  alpha: 'Weights',
  seed: 'Seed',
  longest_run: 'Longest run',
  candidates: 'Layers tried',
  one_shot: 'One pass, without measuring again after each merge',
  keep_first: 'Never merge the first layer',
  keep_last: 'Never merge the last layer',
  release_massive: 'Allow layers that write massive activations to be absorbed',
  remove_experts: 'Experts to remove',
  expert_selection: 'Which experts',
} as const satisfies Partial<Record<keyof PlanOptions, string>>

export const EVALUATION_NAMES = {
  text: 'Judge on',
  samples: 'Pieces of text',
  tokens: 'Length of a piece',
} as const satisfies Partial<Record<keyof TextOptions, string>>

export const WRITE_NAMES = {
  max_shard_bytes: 'Largest file',
  importances: 'Use importances',
} as const satisfies Partial<Record<keyof WriteOptions, string>>

/** How the matrix is looked at. */
export const MATRIX_NAMES = { scale: 'Scale', palette: 'Colours', against: 'Compare with' } as const
