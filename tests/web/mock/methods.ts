import type { NamedMethod, Operator, Selection } from '../../../www/engine/protocol/method'

const limits = (selection: Selection, operator: Operator) =>
  operator !== 'pool-refit'
    ? { longest_run: null, candidates: null }
    : { longest_run: 4, candidates: selection === 'greedy-kl' ? 10 : null }

const method = (
  name: string,
  title: string,
  selection: Selection,
  operator: Operator,
  about: string,
  one_shot = false,
): NamedMethod => ({ name, title, selection, operator, one_shot, ...limits(selection, operator), about })

/** As the engine names them. */
export const METHODS: NamedMethod[] = [
  method(
    'mka',
    'MKA',
    'mka',
    'average',
    'Merges the most similar neighbours by weighted average, comparing anew after each merge (EMNLP 2024).',
  ),
  method(
    'mka-code',
    'MKA, published code',
    'tail',
    'drop',
    'Drops the last layers, which is what the code published with MKA does.',
  ),
  method(
    'shortgpt',
    'ShortGPT',
    'bi',
    'drop',
    'Drops the layers that turn the residual stream least (arXiv 2403.03853).',
  ),
  method(
    'pruneme',
    'PruneMe',
    'angular',
    'drop',
    'Drops the contiguous block whose input and output differ least in angle (arXiv 2403.17887), without the fine-tuning that its authors do afterwards.',
  ),
  method(
    'sleb',
    'SLEB',
    'greedy-nll',
    'drop',
    'Drops, one after the other, the layer whose loss harms the likelihood least (ICML 2024).',
  ),
  method(
    'greedy-kl',
    'Greedy KL',
    'greedy-kl',
    'drop',
    'Drops, one after the other, the layer whose loss changes the predictions least.',
  ),
  method(
    'laco',
    'LaCo',
    'laco',
    'laco',
    'Collapses windows of layers into their first by adding up differences (EMNLP 2024).',
  ),
  method(
    'prunecomp',
    'Prune&Comp',
    'bi',
    'scale',
    'Drops by Block Influence and makes up for the magnitude that is lost (AAAI 2026).',
  ),
  method(
    'replaceme',
    'ReplaceMe',
    'angular',
    'replaceme',
    'Replaces a contiguous block by a linear map, folded into the layer before it (NeurIPS 2025).',
  ),
  method(
    'flatten',
    'FlattenGPT',
    'pairs',
    'flatten',
    'Puts neighbours side by side and keeps their most important heads and neurons (ICML 2026).',
  ),
  method('random', 'Random', 'random', 'drop', 'Drops layers drawn by lot: what every rule must beat.'),
  method(
    'laminate',
    'Laminate',
    'redundancy',
    'pool-refit',
    "Merges the runs of layers that change the diffusion map and turn the stream least, pooling their heads and neurons and refitting them to the original's states.",
    true,
  ),
  method(
    'laminate-search',
    'Laminate, searched',
    'greedy-kl',
    'pool-refit',
    'Searches for the layers that are missed least and merges them as Laminate does.',
  ),
]
