/** One sentence for each term of art; shown on a dotted underline. */
export const TERMS = {
  similarity:
    'How much the arrangement of the same texts in one layer tells about their arrangement in another: 0 is nothing, 1 is everything.',
  'diffusion map':
    'A picture of a layer in which two texts lie close when many short steps between neighbouring texts lead from one to the other.',
  'mutual information':
    "How many nats of uncertainty about one layer's map disappear when the other layer's map is known.",
  'Block Influence':
    'How far a layer changes the hidden state: 1 minus the mean cosine between what goes in and what comes out.',
  perplexity: 'How many words the model hesitates between, on average, when it predicts this text: lower is better.',
  KL: "How far the smaller model's predictions lie from the original's, in nats for each token: 0 means the same predictions.",
  agreement: 'The share of tokens at which both models would write the same next token.',
  importances:
    'How large, on average over a text, what each column of a matrix is multiplied by: errors of a column count by it. llama.cpp calls a file of them an importance matrix, imatrix.',
  alpha: 'The weight of the earlier layer in the merged one; the later layer has the rest.',
  calibration: 'Running a sample of text through the model to see what each layer does with it.',
  collapsed: "The perplexity is more than ten times the original's: the model no longer works.",
  fitted:
    'Solved by least squares, so that a merged layer gives what the layers it stands for gave on the calibration text.',
  'held out':
    'Kept for measuring: no layer was fitted to it, so that it shows what the model does with text it was not made for.',
  elbow: 'The last merge before the first that costs more than twice what merges had usually cost until then, in KL.',
  bandwidth: 'The squared distance at which two texts still count as neighbours.',
  plan: 'Which layers become one, in which order and with which shares.',
  'density exponent':
    'How far crowded regions are thinned out before steps are taken: 0 leaves them crowded, 1 makes the map blind to how densely texts lie.',
  'diffusion time':
    'How many steps of the random walk the map looks ahead: each coordinate shrinks by its eigenvalue with every step, so that fine patterns fade first.',
  spectrum:
    'The eigenvalues of the random walk in a layer: each is the share of a pattern that is left after one step. The first is always 1 and says nothing.',
  'nearly disconnected':
    'The second eigenvalue is above 0.9: almost no step leads from one group of texts to the other, and the map shows which group a text is in and little else.',
  'massive activation': 'A few numbers, far larger than all others, that one layer writes and later layers rely on.',
  'kind of layer':
    'What a layer is built of: attention, with or without a window, or Mamba; and one MLP or several experts.',
  eigenvalue:
    'How slowly the second-largest pattern fades as steps are taken; near 1, the texts fall into separate islands.',
} as const

export type TermName = keyof typeof TERMS
