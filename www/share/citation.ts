/** What to cite, as plain text and as BibTeX. */
import { PROGRAM } from './result'

export interface Citation {
  /** Of what. */
  what: string
  text: string
  bibtex: string
}

const YEAR = 2026

export const CITATIONS: readonly Citation[] = [
  {
    what: 'this program',
    text: `Laminate ${PROGRAM}: compress a large language model by merging its similar layers, and see why they are similar. Computer software, ${YEAR}.`,
    bibtex: `@software{laminate,
  title   = {{Laminate}: compress a large language model by merging its similar layers, and see why they are similar},
  version = {${PROGRAM}},
  year    = {${YEAR}},
  license = {MIT OR Apache-2.0}
}`,
  },
  {
    what: 'the method, MKA',
    text: 'Deyuan Liu, Zhanyue Qin, Hairu Wang, Zhao Yang, Zecheng Wang, Fangying Rong, Qingbin Liu, Yanchao Hao, Bo Li, Xi Chen, Cunhang Fan, Zhao Lv, Dianhui Chu, Zhiying Tu and Dianbo Sui. Pruning via Merging: Compressing LLMs via Manifold Alignment Based Layer Merging. In Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing, pages 17817–17829, Miami, Florida, USA. Association for Computational Linguistics. arXiv:2406.16330.',
    bibtex: `@inproceedings{liu-etal-2024-pruning,
  title     = {Pruning via Merging: Compressing {LLM}s via Manifold Alignment Based Layer Merging},
  author    = {Liu, Deyuan and Qin, Zhanyue and Wang, Hairu and Yang, Zhao and Wang, Zecheng and Rong, Fangying and Liu, Qingbin and Hao, Yanchao and Li, Bo and Chen, Xi and Fan, Cunhang and Lv, Zhao and Chu, Dianhui and Tu, Zhiying and Sui, Dianbo},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing},
  address   = {Miami, Florida, USA},
  publisher = {Association for Computational Linguistics},
  year      = {2024},
  pages     = {17817--17829},
  doi       = {10.18653/v1/2024.emnlp-main.987},
  eprint    = {2406.16330},
  archiveprefix = {arXiv}
}`,
  },
]
