"""Independent torch version of every selection rule and operator; results are stored in methods/*.json; the
Rust tests must agree.

    python make_methods.py                                     # planted.json
    SMOL=model.gguf WIKITEXT=wikitext2-valid.txt python make_methods.py   # and smollm2.json

planted: the 12-layer model of src/demo with its text. smollm2: SmolLM2-135M-Instruct, dequantised from the Q4_1
GGUF file that SMOL names, with the WikiText-2 validation text that WIKITEXT names. OUT is another folder for the
results. DOUBLE=1 computes activations in float64 instead of float32: the difference is what rounding can explain.

Notation: X[l] is the residual stream entering layer l, [S, T, D]; X[L] leaves the last layer. A run is a list of
layers that become one, survivor first; t is the layer after the run. Gram matrices, solves and sums: float64.
"""
import functools, itertools, json, math, os, zlib
import numpy as np, torch, torch.nn.functional as F
from scipy.special import digamma

torch.set_num_threads(1)
torch.set_grad_enabled(False)
HERE = os.path.dirname(os.path.abspath(__file__))
REAL = torch.float64 if os.environ.get('DOUBLE') else torch.float32
Q, K, V, O, GATE, UP, DOWN, N1, N2 = NAMES = [n + '.weight' for n in (
    'self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj', 'mlp.gate_proj', 'mlp.up_proj',
    'mlp.down_proj', 'input_layernorm', 'post_attention_layernorm')]

STRENGTHS = .01, .03, .1, .3, 1., 3.        # of ridges, as shares of the mean of diag G


# ---- model -------------------------------------------------------------------------------------------------------

class Model:
    """config, embedding (tied head), final norm and a list of layers, each a dict by HF tensor name"""

    def __init__(self, config, weights):
        self.heads, self.kv = config['num_attention_heads'], config['num_key_value_heads']
        self.width, self.ff = config['hidden_size'], config['intermediate_size']
        self.hd = config.get('head_dim') or self.width // self.heads
        self.eps, self.theta = config['rms_norm_eps'], config['rope_parameters']['rope_theta']
        self.embed, self.last = weights['model.embed_tokens.weight'].to(REAL), weights['model.norm.weight'].to(REAL)
        self.layers = [{n: weights[f'model.layers.{i}.{n}'].to(REAL) for n in NAMES}
                       for i in range(config['num_hidden_layers'])]

    def norm(self, x, w):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * w

    def rope(self, x):
        h = self.hd // 2
        a = torch.outer(torch.arange(x.shape[-2]).to(REAL), self.theta ** -(torch.arange(h).to(REAL) / h))
        c, s = torch.cat([a, a], -1).cos(), torch.cat([a, a], -1).sin()
        return x * c + torch.cat([-x[..., h:], x[..., :h]], -1) * s

    def context(self, x, p):
        """attention contexts of layer p on the stream x, before the output projection: [S, T, heads * hd]"""
        n, split = self.norm(x, p[N1]), lambda y: y.view(*y.shape[:2], -1, self.hd).transpose(1, 2)
        q, k, v = (split(n @ p[w].T) for w in (Q, K, V))
        r = self.heads // self.kv
        k, v = self.rope(k).repeat_interleave(r, 1), v.repeat_interleave(r, 1)
        a = self.rope(q) @ k.transpose(2, 3) / math.sqrt(self.hd)
        a = a.masked_fill(torch.ones(a.shape[-2:]).triu(1).bool(), -torch.inf).softmax(-1)
        return (a @ v).transpose(1, 2).flatten(2)

    def gated(self, x, p):
        """gated activations of layer p's MLP on the stream x: [S, T, ff]"""
        n = self.norm(x, p[N2])
        return F.silu(n @ p[GATE].T) * (n @ p[UP].T)

    def middle(self, x, p):
        return x + self.context(x, p) @ p[O].T

    def layer(self, x, p):
        x = self.middle(x, p)
        return x + self.gated(x, p) @ p[DOWN].T

    def logits(self, x):
        return self.norm(x, self.last) @ self.embed.T


class Data:
    """the model with its sequences, the dense streams X and, for the scored positions, the dense logits"""

    def __init__(self, model, ids):
        self.m, self.ids, (self.S, self.T), self.L = model, ids, ids.shape, len(model.layers)
        self.X = [model.embed[ids]]
        for p in model.layers:
            self.X.append(model.layer(self.X[-1], p))
        self.dense = [model.logits(x[:-1]) for x in self.X[-1]]
        held = np.round(np.linspace(0, self.S - 1, max(1, self.S // 5))).astype(int)
        self.held = torch.tensor(held)
        self.fit = torch.tensor([i for i in range(self.S) if i not in set(held.tolist())])

    def score(self, x, rows=None):
        """(mean NLL, mean KL(dense || this)) over the scored positions of sequences `rows`; x = their last streams"""
        rows, nll, kl = range(self.S) if rows is None else rows, 0.0, 0.0
        for h, i in zip(x, rows):
            old, new = self.dense[i].double().log_softmax(-1), self.m.logits(h[:-1]).double().log_softmax(-1)
            nll -= new.gather(1, self.ids[i, 1:, None]).sum().item()
            kl += (old.exp() * (old - new)).sum().item()
        n = len(rows) * (self.T - 1)
        return nll / n, kl / n

    def measures(self, layers):
        x, held = self.X[0], self.held.tolist()
        for p in layers:
            x = self.m.layer(x, p)
        (nll, kl), (nll_held, kl_held) = self.score(x), self.score(x[self.held], held)
        return dict(kl=kl, ppl=math.exp(nll), kl_held_out=kl_held, ppl_held_out=math.exp(nll_held))


# ---- selection ---------------------------------------------------------------------------------------------------

def cosine(a, b):
    a, b = a.double(), b.double()
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))

def ranked(values):
    """indices from the lowest value up; ties: the deeper first"""
    return sorted(range(len(values)), key=lambda l: (values[l], -l))

def block_influence(d):
    return [1 - cosine(d.X[l][:, 1:], d.X[l + 1][:, 1:]).mean().item() for l in range(d.L)]

def angular(d, n):
    v = [(cosine(d.X[l][:, -1], d.X[l + n][:, -1]).clamp(-1, 1).arccos() / math.pi).mean().item()
         for l in range(d.L - n + 1)]
    l = ranked(v)[0]
    return dict(values=v, removed=list(range(l, l + n)))

def pairs(bi, k):
    """pair (l, l+1) is ranked by BI_l; no layer in two pairs; l+1 is merged into l"""
    used, removed = set(), []
    for l in ranked(bi[:-1]):
        if len(removed) < k and not used & {l, l + 1}:
            used |= {l, l + 1}
            removed.append(l + 1)
    return removed

def greedy(d, k, sequences, memo):
    """both greedy rules: rounds of removals, the streams before the removed layer taken from the last round"""
    out = {}
    for name, which, barred in ('greedy-nll', 0, {0, d.L - 1}), ('greedy-kl', 1, set()):
        alive, removed, rounds = list(range(d.L)), [], []
        while len(removed) < k:
            streams, values = [d.X[0][:sequences]], {}
            for l in alive:
                streams.append(d.m.layer(streams[-1], d.m.layers[l]))
            for i, l in enumerate(alive):
                key = frozenset(removed + [l])
                if l in barred:
                    continue
                if key not in memo:
                    x = streams[i]
                    for j in alive[i + 1:]:
                        x = d.m.layer(x, d.m.layers[j])
                    memo[key] = d.score(x, range(sequences))
                values[l] = memo[key][which]
            best = min(values, key=lambda l: (values[l], -l))
            alive.remove(best)
            removed.append(best)
            rounds.append(values)
            print(name, best, values[best], flush=True)
        out[name] = dict(sequences=sequences, removed=removed, rounds=rounds)
    return out

def diffusion_map(h, dims=2):
    h = h.double().numpy()
    h = h / np.sqrt((h * h).mean(1, keepdims=True))
    h = h - h.mean(0)
    d2 = ((h[:, None] - h[None]) ** 2).sum(-1)
    w = np.exp(-d2 / np.median(d2[np.triu_indices(len(h), 1)]))
    deg = w.sum(1)
    lam, u = np.linalg.eigh(w / np.sqrt(np.outer(deg, deg)))
    lam, u = lam[::-1], u[:, ::-1]
    return u[:, 1:dims + 1] / u[:, :1] * lam[1:dims + 1]

def information(x, y, k=5):
    """Kraskov-Stoegbauer-Grassberger estimator 1, max norm"""
    dx, dy = (np.abs(z[:, None] - z[None]).max(-1) for z in (x / x.std(0), y / y.std(0)))
    r = np.sort(np.maximum(dx, dy), 1)[:, k, None]
    count = lambda e: np.maximum((e < r).sum(1), 1)          # the point itself included: n + 1
    return digamma(len(x)) + digamma(k) - (digamma(count(dx)) + digamma(count(dy))).mean()

def similarity(d, positions):
    """of the layers' outputs, each with each"""
    maps = [diffusion_map(x[:, positions].flatten(0, 1)) for x in d.X[1:]]
    own = [information(a, a) for a in maps]
    between = lambda l, m: min(1.0, max(0.0, information(maps[l], maps[m])) / math.sqrt(own[l] * own[m]))
    return [[between(*sorted((l, m))) for m in range(d.L)] for l in range(d.L)]

def redundancy(s, bi, k):
    """the layers that go where runs first..last become one and cost (1 - S(first, last)) (BI(first) + .. + BI(last)):
    the least sum, by trying for each layer how long the run that it begins could be"""
    L = len(bi)
    cost = lambda first, last: (1 - s[first][last]) * sum(bi[first:last + 1])
    @functools.cache
    def least(layer, k):
        if layer == L:
            return (0.0, ()) if k == 0 else (math.inf, ())
        ways = []
        for n in range(min(k, L - 1 - layer) + 1):
            rest, gone = least(layer + n + 1, k - n)
            ways.append((rest + (cost(layer, layer + n) if n else 0), tuple(range(layer + 1, layer + n + 1)) + gone))
        return min(ways)
    return list(least(0, k)[1])


# ---- operators: runs -> (new layers, notes) ----------------------------------------------------------------------

def drop(d, runs):
    return [dict(d.m.layers[r[0]]) for r in runs], {}

def average(d, runs, alpha=0.6):
    out = []
    for run in runs:
        c = dict(d.m.layers[run[0]])
        for j in run[1:]:
            c = {n: alpha * c[n] + (1 - alpha) * d.m.layers[j][n] for n in NAMES}
        out.append(c)
    return out, {}

def laco(d, runs):
    return [{n: d.m.layers[r[0]][n] + sum(d.m.layers[j][n] - d.m.layers[r[0]][n] for j in r[1:]) for n in NAMES}
            for r in runs], {}

def scale(d, runs):
    out, factors, total = [], [], 1.0
    for run in runs:
        p = dict(d.m.layers[run[0]])
        if total != 1:
            p[O], p[DOWN] = p[O] / total, p[DOWN] / total
        out.append(p)
        if len(run) > 1:
            a, b = (d.X[i][:, 1:].double().abs().mean((0, 1)) for i in (run[0] + 1, run[-1] + 1))
            factors.append((b / a).mean().item())
            total *= factors[-1]
    return out, dict(factors=factors)

def ridge(d, z, y, b0, target):
    """argmin |w (Z B - Y)|^2 + lam mean(diag G) |B - B0|^2, lam by the held-out sequences, then on all; or B0"""
    w = 1 / target.double().pow(2).mean(-1, keepdim=True).sqrt()
    wz, e = w * z.double(), w * (y.double() - z.double() @ b0.double())
    gram = lambda rows: [wz[rows].flatten(0, 1).T @ a[rows].flatten(0, 1) for a in (wz, e)]
    (g, c), (gv, cv) = gram(d.fit), gram(d.held)
    sc, eye, best, walk = g.diagonal().mean(), torch.eye(len(g), dtype=g.dtype), (0.0, None, None), []
    for lam in STRENGTHS:
        diff = torch.cholesky_solve(c, torch.linalg.cholesky(g + lam * sc * eye))
        err = (-2 * (diff * cv).sum() + (diff * (gv @ diff)).sum()).item()
        walk.append([lam, err])
        if err < best[0]:
            best = err, lam, diff
        elif best[1] is not None:
            break
    if best[1] is not None:
        g, c = g + gv, c + cv
        best = *best[:2], torch.cholesky_solve(c, torch.linalg.cholesky(g + best[1] * g.diagonal().mean() * eye))
    note = dict(lam=best[1], walk=walk, held_out_error_before=e[d.held].pow(2).sum().item())
    return (b0 if best[1] is None else (b0.double() + best[2]).to(b0.dtype)), note

def replaceme(d, runs):
    out, notes = [], []
    for run in runs:
        s, x, p = run[0], d.X[run[-1] + 1], dict(d.m.layers[run[0]])
        if len(run) > 1:
            mid = d.m.middle(d.X[s], p)
            t, note = ridge(d, d.X[s + 1] - mid, x - mid, torch.eye(d.m.width, dtype=REAL), x)
            p[DOWN] = t.T @ p[DOWN]
            notes.append(note)
        out.append(p)
    return out, dict(fits=notes)

def flatten(d, runs):
    out, notes, m = [], [], d.m
    for run in runs:
        p = dict(m.layers[run[0]])
        if len(run) > 1:
            x, parts = d.X[run[0]], []
            for j in run:                                       # fold the norms
                q = dict(m.layers[j])
                q.update({n: q[n] * q[N1] for n in (Q, K, V)} | {n: q[n] * q[N2] for n in (GATE, UP)})
                q[N1] = q[N2] = torch.ones_like(q[N1])
                parts.append(q)
            z = [m.context(x, q) for q in parts]
            after = x + sum(c @ q[O].T for c, q in zip(z, parts))
            size, scores = m.heads // m.kv, []                   # query heads per group
            for c, q in zip(z, parts):
                h = c[:, 1:].double().unflatten(-1, (m.heads, m.hd))
                o = q[O].double().unflatten(1, (m.heads, m.hd))
                s = torch.stack([(h[:, :, i] @ o[:, i].T).pow(2).sum() for i in range(m.heads)])
                scores += s.view(m.kv, size).sum(1).tolist()
            keep = sorted(sorted(range(len(scores)), key=lambda g: -scores[g])[:m.kv])
            cut = lambda n, dim, width: torch.cat(
                [parts[g // m.kv][n].narrow(dim, g % m.kv * width, width) for g in keep], dim)
            p = {Q: cut(Q, 0, size * m.hd), K: cut(K, 0, m.hd), V: cut(V, 0, m.hd), O: cut(O, 1, size * m.hd)}
            act = torch.cat([m.gated(after, q)[:, 1:] for q in parts], -1).double().flatten(0, 1)
            c = act.T @ act
            n = len(c)
            eye = 10 * c.trace() / n * torch.eye(n, dtype=c.dtype)     # lam I
            lev = 1 - eye[0, 0] * torch.cholesky_inverse(torch.linalg.cholesky(c + eye)).diagonal()
            order = lev.argsort(descending=True)
            k, rest = order[:m.ff].sort().values, order[m.ff:].sort().values
            down = torch.cat([q[DOWN].T for q in parts]).double()
            fix = torch.linalg.solve(c[k][:, k] + eye[:m.ff, :m.ff], c[k][:, rest] @ down[rest])
            p[GATE], p[UP] = (torch.cat([q[w] for q in parts])[k] for w in (GATE, UP))
            p[DOWN] = (down[k] + fix).T.to(REAL)
            p[N1] = p[N2] = torch.ones(m.width, dtype=REAL)
            notes.append(dict(group_scores=scores, kept_groups=keep, kept_neurons=k.tolist(),
                              least_kept_and_best_left=lev[order[m.ff - 1:m.ff + 1]].tolist()))
        out.append(p)
    return out, dict(runs=notes)

def refit(d, runs):
    out, notes, m, x = [], [], d.m, d.X[0]
    for run in runs:
        p = dict(m.layers[run[0]])
        if len(run) > 1:
            target, zc = d.X[run[-1] + 1], m.context(x, p)
            zm = m.gated(x + zc @ p[O].T, p)
            joint, a = ridge(d, torch.cat([zc, zm], -1), target - x, torch.cat([p[O].T, p[DOWN].T]), target)
            # the down projection with the new output projection and with the old; the one of less held-out error
            fits = []
            for o in joint[:zc.shape[-1]].T, p[O]:
                mid = x + zc @ o.T
                z, y = m.gated(mid, p), target - mid
                new, b = ridge(d, z, y, p[DOWN].T, target)
                error = b['held_out_error_before'] + min(0, *(err for _, err in b['walk']))
                fits += [(error, o, new, b)]
            _, p[O], new, b = min(fits, key=lambda fit: fit[0])
            p[DOWN] = new.T
            notes += [dict(joint=a, down=b)]
        out.append(p)
        x = m.layer(x, p)
    return out, dict(fits=notes)


# ---- results -----------------------------------------------------------------------------------------------------

LCG = list(itertools.accumulate(range(1 << 20), lambda x, _: (1664525 * x + 1013904223) & 0xffffffff, initial=12345))
RANDOM = torch.tensor(LCG, dtype=torch.float64) / 2 ** 32 - 0.5       # r_0 = 12345 / 2^32 - 0.5

def digest(d, runs, layers):
    """[name, shape, norm, sum, dot with RANDOM, first 8 values] of every tensor that differs from the survivor's"""
    out = []
    for i, (run, p) in enumerate(zip(runs, layers)):
        for n in NAMES:
            old, t = d.m.layers[run[0]][n], p[n].double().reshape(-1)
            if not torch.equal(old, p[n]):
                out.append([f'model.layers.{i}.{n}', list(old.shape), t.norm().item(), t.sum().item(),
                            (t @ RANDOM[:len(t)]).item(), t[:8].tolist()])
    return out

def groups(removed, count):
    runs = []
    for l in range(count):
        if l in removed and runs:
            runs[-1].append(l)
        else:
            runs.append([l])
    return runs

def rounded(x):
    if isinstance(x, float):
        return float(f'{x:.9g}')
    if isinstance(x, dict):
        return {str(k): rounded(v) for k, v in x.items()}
    return [rounded(v) for v in x] if isinstance(x, (list, tuple)) else x

def text(x, depth):
    """JSON with one line per value down to `depth`, and per tensor in lists of digests"""
    pad = ' ' * (5 - depth)
    if isinstance(x, dict) and depth:
        return '{\n' + ',\n'.join(f'{pad}{json.dumps(k)}: {text(v, depth - 1)}' for k, v in x.items()) + '}'
    if isinstance(x, list) and x and isinstance(x[0], list) and isinstance(x[0][0], str):
        return '[\n' + ',\n'.join(pad + json.dumps(v, separators=(',', ':')) for v in x) + ']'
    return json.dumps(x, separators=(',', ':'))

def make(name, config, weights, tokenizer, words, S, T, ks, runs, points, greedy_sequences):
    ids = tokenizer.encode(words, add_special_tokens=False).ids
    ids = torch.tensor([[config['bos_token_id']] + ids[i * (T - 1):(i + 1) * (T - 1)] for i in range(S)])
    d = Data(Model(config, weights), ids)
    bi, positions = block_influence(d), [T * (j + 1) // points - 1 for j in range(points)]
    alike = similarity(d, positions)
    near = [alike[l][l + 1] for l in range(d.L - 1)]
    per_k = lambda f: {k: f(k) for k in ks}
    select = {
        'bi': dict(values=bi, removed=per_k(lambda k: ranked(bi)[:k])),
        'angular': per_k(lambda k: angular(d, k)),
        'pairs': per_k(lambda k: pairs(bi, k)),
        'tail': per_k(lambda k: [d.L - 1 - i for i in range(k)]),
        'reverse': per_k(lambda k: [d.L - 2 - i for i in range(k)]),
        'mka': dict(positions=positions, adjacent=near,
                    removed=per_k(lambda k: [l + 1 for l in ranked([-s for s in near])[:k]])),
        'redundancy': per_k(lambda k: redundancy(alike, bi, k)),
        **greedy(d, max(ks), greedy_sequences, {})}
    ops = {}
    for op in drop, average, laco, scale, replaceme, flatten, refit:
        layers, notes = op(d, runs)
        ops[op.__name__] = d.measures(layers) | notes | dict(tensors=digest(d, runs, layers))
        print(name, op.__name__, {k: v for k, v in ops[op.__name__].items() if isinstance(v, float)}, flush=True)
    nll, _ = d.score(d.X[-1])
    result = dict(
        model=name, layers=d.L, sequences=S, tokens=T, first_ids=ids[0, :16].tolist(),
        ids_crc32=zlib.crc32(ids.numpy().astype('<u4').tobytes()), held_out=d.held.tolist(), dense_ppl=math.exp(nll),
        largest_rms=[x.double().pow(2).mean(-1).sqrt().max().item() for x in d.X],
        selection=select, runs=runs, operators=ops)
    with open(os.path.join(os.environ.get('OUT', HERE), name + '.json'), 'w') as f:
        f.write(text(rounded(result), 3) + '\n')

def main():
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    demo = os.path.join(HERE, '..', '..', 'src', 'demo')
    read = lambda p: open(p, encoding='utf8', newline='').read()
    make('planted', json.loads(read(demo + '/config.json')), load_file(demo + '/model.safetensors'),
         Tokenizer.from_file(demo + '/tokenizer.json'), read(demo + '/text.txt'), 128, 48, (3, 5),
         [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]], 1, 128)
    if 'SMOL' not in os.environ:
        return
    from transformers import AutoModelForCausalLM, AutoTokenizer
    where = dict(zip(('pretrained_model_name_or_path', 'gguf_file'), os.path.split(os.environ['SMOL'])))
    hf = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    make('smollm2', hf.config.to_dict(), hf.state_dict(), AutoTokenizer.from_pretrained(**where).backend_tokenizer,
         read(os.environ['WIKITEXT']), 32, 64, (4, 8), groups({5, 12, 13, 16, 17}, 30), 8, 8)

if __name__ == '__main__':
    main()
