import type { Metric } from '../engine/protocol/similarity'

/**
 * What each metric is called: `word` where it is chosen, which is short, and `full` where a result stands by itself. And
 * what it compares, and how its numbers read.
 */
export const METRICS: Record<Metric, { word: string; full: string; hint: string }> = {
  mi: {
    word: 'diffusion maps',
    full: 'mutual information of diffusion maps',
    hint: "How much one layer's map tells about another's: arrangement alone, whatever the scale and rotation.",
  },
  cka: {
    word: 'linear CKA',
    full: 'linear CKA',
    hint: 'How alike the distances between texts are in two layers; ignores scale and rotation.',
  },
  cosine: {
    word: 'cosine',
    full: 'mean cosine',
    hint: 'How alike the directions of the states are; near 1 for most pairs, because layers only add to the stream.',
  },
  angular: { word: 'angle', full: 'angle', hint: 'One minus the angle between the states, as a share of half a turn.' },
  euclidean: {
    word: 'Euclidean',
    full: 'Euclidean distance',
    hint: 'Distance between the states, against the median over all pairs: 0.5 is the usual distance.',
  },
  mahalanobis: {
    word: 'Mahalanobis',
    full: 'Mahalanobis distance',
    hint: 'Distance in units of how much the states vary, against the median over all pairs: 0.5 is usual.',
  },
  tsne: {
    word: 't-SNE',
    full: 'mutual information of t-SNE layouts',
    hint: 'As for diffusion maps, of layouts by t-SNE, which keep who is near whom and little else. Takes the longest.',
  },
  autoencoder: {
    word: 'autoencoder',
    full: 'mutual information of autoencoder codes',
    hint: 'As for diffusion maps, of the two numbers through which a small network, trained on each layer, squeezes the states.',
  },
}

export const METRIC_NAMES = Object.keys(METRICS) as Metric[]
