#include "server/model/forward.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "server/base/status.h"
#include "server/model/attention.h"
#include "server/model/elementwise.h"

namespace featurescope {
namespace {

// A run of consecutive sequences whose attention is computed in one go.
struct Group {
  int64_t first_sequence = 0;
  int64_t n_sequences = 0;
  int64_t first_token = 0;
  int64_t n_tokens = 0;  // of all its sequences
};

// Sequences of equal length without caches go together, the others one by one.
std::vector<Group> GroupsOf(const SequenceBatch& batch) {
  std::vector<Group> groups;
  for (int64_t i = 0; i < batch.n_sequences(); ++i) {
    const int64_t begin = batch.offsets[static_cast<size_t>(i)];
    const int64_t length = batch.offsets[static_cast<size_t>(i + 1)] - begin;
    if (batch.caches.empty() && !groups.empty() &&
        groups.back().n_tokens == groups.back().n_sequences * length) {
      ++groups.back().n_sequences;
      groups.back().n_tokens += length;
    } else {
      groups.push_back({i, 1, begin, length});
    }
  }
  return groups;
}

// The place of every token in its sequence, int64 [tokens].
torch::Tensor PositionsOf(const SequenceBatch& batch) {
  torch::Tensor positions = torch::empty({batch.n_tokens()}, torch::kInt64);
  int64_t* to = positions.data_ptr<int64_t>();
  for (int64_t i = 0; i < batch.n_sequences(); ++i) {
    const auto s = static_cast<size_t>(i);
    int64_t position = batch.caches.empty() ? 0 : batch.caches[s]->length();
    for (int64_t t = batch.offsets[s]; t < batch.offsets[s + 1]; ++t) *to++ = position++;
  }
  return positions;
}

// Whether nobody but this handle sees the tensor's memory, so that it may be overwritten.
bool IsUnshared(const torch::Tensor& t) {
  return t.defined() && t.use_count() == 1 && t.storage().use_count() == 1;
}

// Memory for a result that is used again in the next layer unless a hook has kept it: fresh large
// allocations cost page faults.
class Scratch {
 public:
  torch::Tensor& Fresh(torch::IntArrayRef sizes, const torch::TensorOptions& options) {
    if (!IsUnshared(tensor_) || tensor_.sizes() != sizes) tensor_ = torch::empty(sizes, options);
    return tensor_;
  }

 private:
  torch::Tensor tensor_;
};

class ForwardPass {
 public:
  ForwardPass(const ModelConfig& config, const ModelWeights& weights, const SequenceBatch& batch,
              const ForwardOptions& options)
      : config_(config),
        weights_(weights),
        batch_(batch),
        options_(options),
        groups_(GroupsOf(batch)),
        tensor_options_(weights.embed.options()),
        n_(batch.n_tokens()) {
    if (options.logits != LogitsOf::kNone) {
      last_order_ = std::numeric_limits<int>::max();
      return;
    }
    // The caches get the keys and values of all layers, whatever is hooked.
    if (!batch.caches.empty()) last_order_ = Order(HookKind::kZ, config.n_layers - 1);
    if (options.hooks != nullptr) {
      for (const auto& [hook, function] : options.hooks->entries()) {
        last_order_ = std::max(last_order_, ExecutionOrder(hook, config.n_layers));
      }
    }
  }

  absl::StatusOr<torch::Tensor> Run() {
    torch::Tensor logits;
    RETURN_IF_ERROR(options_.cancel.Check());
    bool going_on = last_order_ >= 0 && Embed();
    for (int layer = 0; going_on && layer < config_.n_layers; ++layer) {
      going_on = Attention(layer) && Mlp(layer);
      RETURN_IF_ERROR(options_.cancel.Check());
    }
    if (going_on) logits = Unembed();
    if (going_on || last_order_ >= Order(HookKind::kZ, config_.n_layers - 1)) AdvanceCaches();
    return logits;
  }

 private:
  int Order(HookKind kind, int layer) const {
    return ExecutionOrder(HookPoint{kind, layer}, config_.n_layers);
  }
  bool Wants(HookKind kind, int layer) const {
    return options_.hooks != nullptr && options_.hooks->Wants(HookPoint{kind, layer});
  }
  // Whether nothing after this point is wanted.
  bool Ended(HookKind kind, int layer) const { return Order(kind, layer) >= last_order_; }

  void RunHooks(HookKind kind, int layer, int64_t first_sequence, int64_t n_sequences,
                torch::Tensor& value) const {
    if (!Wants(kind, layer)) return;
    const HookContext context{HookPoint{kind, layer}, first_sequence, n_sequences};
    const torch::Tensor before = value;
    options_.hooks->Run(context, value);
    if (value.is_same(before)) return;
    TORCH_CHECK(value.sizes() == before.sizes() && value.scalar_type() == before.scalar_type(),
                "an editor at ", context.hook.name(), " changed ", before.scalar_type(),
                before.sizes(), " to ", value.scalar_type(), value.sizes());
    value = value.contiguous();
  }
  // Runs the hooks on a value of all tokens. False: the pass ends here.
  bool Pass(HookKind kind, int layer, torch::Tensor& value) const {
    RunHooks(kind, layer, 0, batch_.n_sequences(), value);
    return !Ended(kind, layer);
  }

  torch::Tensor Apply(const LinearWeights& linear, const torch::Tensor& x, Scratch& scratch) const;
  bool Norm(const NormWeights& norm, HookKind kind, int layer, torch::Tensor* out);
  torch::Tensor PostNormed(const NormWeights& norm, const torch::Tensor& x);
  torch::Tensor Placed(const torch::Tensor& x, const NormWeights& norm, HookKind kind,
                       int layer) const;
  void AddToResidual(torch::Tensor& what);

  bool Embed();
  bool Attention(int layer);
  bool AttentionResult(int layer, const torch::Tensor& q, const torch::Tensor& k,
                       const torch::Tensor& v, torch::Tensor* z);
  bool Mlp(int layer);
  torch::Tensor Unembed();
  void AdvanceCaches() const;

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const SequenceBatch& batch_;
  const ForwardOptions& options_;
  const std::vector<Group> groups_;
  const torch::TensorOptions tensor_options_;
  const int64_t n_;  // tokens
  int last_order_ = -1;

  torch::Tensor residual_;       // [n, d_model]
  torch::Tensor rotary_cosine_;  // float32 [n, rotary_dims / 2]
  torch::Tensor rotary_sine_;
  torch::Tensor attn_out_;  // [n, d_model], while a parallel block's MLP runs
  Scratch normed_, qkv_, z_, mlp_in_, mlp_up_, attn_result_, mlp_result_, post_normed_;
};

torch::Tensor ForwardPass::Apply(const LinearWeights& linear, const torch::Tensor& x,
                                 Scratch& scratch) const {
  torch::Tensor& out = scratch.Fresh({x.size(0), linear.weight.size(1)}, tensor_options_);
  if (linear.bias.defined()) {
    at::addmm_out(out, linear.bias, x, linear.weight);
  } else {
    at::mm_out(out, x, linear.weight);
  }
  return out;
}

// Norms residual_ and runs the hooks. As in TransformerLens the hooked value is x / rms before the
// weight for RMSNorm, but the result, weight and bias included, for LayerNorm.
bool ForwardPass::Norm(const NormWeights& norm, HookKind kind, int layer, torch::Tensor* out) {
  torch::Tensor& normed = normed_.Fresh({n_, config_.d_model}, tensor_options_);
  if (config_.norm == NormKind::kLayerNorm) {
    LayerNormInto(residual_, norm.weight, norm.bias, config_.norm_eps, normed);
    *out = normed;
    return Pass(kind, layer, *out);
  }
  if (!Wants(kind, layer)) {
    RmsNormInto(residual_, norm.weight, config_.norm_eps, normed);
    *out = normed;
    return !Ended(kind, layer);
  }
  torch::Tensor unweighted = torch::empty_like(normed);
  RmsNormInto(residual_, torch::Tensor(), config_.norm_eps, unweighted);
  if (!Pass(kind, layer, unweighted)) return false;
  *out = (unweighted.to(torch::kFloat32) * norm.weight).to(unweighted.scalar_type());
  return true;
}

// What attention or the MLP adds to the residual stream.
torch::Tensor ForwardPass::PostNormed(const NormWeights& norm, const torch::Tensor& x) {
  if (!norm.weight.defined()) return x;
  torch::Tensor& normed = post_normed_.Fresh(x.sizes(), tensor_options_);
  RmsNormInto(x, norm.weight, config_.norm_eps, normed);
  return normed;
}

// Queries or keys [n, head, d_head], which the hook of `kind` has seen, normed and rotated.
torch::Tensor ForwardPass::Placed(const torch::Tensor& x, const NormWeights& norm, HookKind kind,
                                  int layer) const {
  torch::Tensor placed = x;
  bool in_place = !Wants(kind, layer);
  if (norm.weight.defined()) {
    placed = RmsNormedHeads(placed, norm.weight, config_.norm_eps, in_place);
    in_place = true;
  }
  if (config_.positions == PositionKind::kRotary) {
    placed = Rotated(placed, rotary_cosine_, rotary_sine_, in_place);
  }
  return placed;
}

void ForwardPass::AddToResidual(torch::Tensor& what) {
  if (IsUnshared(residual_)) {
    residual_.add_(what);
  } else {
    residual_ = residual_ + what;
  }
}

bool ForwardPass::Embed() {
  const torch::Device device = weights_.embed.device();
  const torch::Tensor tokens =
      torch::from_blob(const_cast<int64_t*>(batch_.tokens.data()), {n_}, torch::kInt64).to(device);
  torch::Tensor positions = PositionsOf(batch_).to(device);
  residual_ = weights_.embed.index_select(0, tokens);
  if (config_.embed_scale != 1) {
    // Rounded to the compute dtype first, as HF does.
    residual_.mul_(torch::scalar_tensor(config_.embed_scale, residual_.scalar_type()).item());
  }
  if (!Pass(HookKind::kEmbed, -1, residual_)) return false;
  if (config_.positions == PositionKind::kLearned) {
    torch::Tensor embedded = weights_.pos_embed.index_select(0, positions);
    if (!Pass(HookKind::kPosEmbed, -1, embedded)) return false;
    AddToResidual(embedded);
  } else {
    const torch::Tensor angles = torch::outer(positions.to(torch::kFloat32), weights_.inv_freq);
    rotary_cosine_ = angles.cos().mul_(config_.rotary.attention_factor);
    rotary_sine_ = angles.sin().mul_(config_.rotary.attention_factor);
  }
  return true;
}

bool ForwardPass::Attention(int layer) {
  const BlockWeights& block = weights_.blocks[static_cast<size_t>(layer)];
  const int64_t q_width = config_.n_heads * config_.d_head;
  const int64_t kv_width = config_.n_kv_heads * config_.d_head;
  if (!Pass(HookKind::kResidPre, layer, residual_)) return false;
  torch::Tensor normed;
  if (!Norm(block.ln1, HookKind::kLn1Normalized, layer, &normed)) return false;
  const torch::Tensor qkv = Apply(block.qkv, normed, qkv_);
  const auto heads = [&](int64_t from, int64_t n_heads) {
    return qkv.narrow(1, from, n_heads * config_.d_head).unflatten(1, {n_heads, config_.d_head});
  };
  torch::Tensor q = heads(0, config_.n_heads);
  if (!Pass(HookKind::kQ, layer, q)) return false;
  torch::Tensor k = heads(q_width, config_.n_kv_heads);
  if (!Pass(HookKind::kK, layer, k)) return false;
  torch::Tensor v = heads(q_width + kv_width, config_.n_kv_heads);
  if (!Pass(HookKind::kV, layer, v)) return false;
  q = Placed(q, block.q_norm, HookKind::kQ, layer);
  k = Placed(k, block.k_norm, HookKind::kK, layer);
  torch::Tensor z;
  if (!AttentionResult(layer, q, k, v, &z)) return false;
  if (!Pass(HookKind::kZ, layer, z)) return false;
  torch::Tensor out = PostNormed(block.attn_post_norm,
                                 Apply(block.attn_out, z.reshape({n_, q_width}), attn_result_));
  if (!Pass(HookKind::kAttnOut, layer, out)) return false;
  if (config_.parallel_residual) {
    attn_out_ = out;
    return true;
  }
  AddToResidual(out);
  return Pass(HookKind::kResidMid, layer, residual_);
}

// Scores, pattern and the weighted values.
bool ForwardPass::AttentionResult(int layer, const torch::Tensor& q, const torch::Tensor& k,
                                  const torch::Tensor& v, torch::Tensor* z) {
  *z = z_.Fresh({n_, config_.n_heads, config_.d_head}, tensor_options_);
  std::vector<AttentionGroup> groups;
  for (const Group& group : groups_) {
    AttentionGroup& attention = groups.emplace_back();
    attention.n_sequences = group.n_sequences;
    attention.q = q.narrow(0, group.first_token, group.n_tokens);
    attention.k = k.narrow(0, group.first_token, group.n_tokens);
    attention.v = v.narrow(0, group.first_token, group.n_tokens);
    attention.z = z->narrow(0, group.first_token, group.n_tokens);
    if (!batch_.caches.empty()) {
      std::tie(attention.k, attention.v) =
          batch_.caches[static_cast<size_t>(group.first_sequence)]->Extend(layer, attention.k,
                                                                           attention.v);
    }
  }
  const ScoreMaths maths = {static_cast<float>(config_.attention_scale),
                            static_cast<float>(config_.attention_soft_cap),
                            config_.WindowOf(layer)};
  const bool wants_scores = Wants(HookKind::kAttnScores, layer);
  const bool wants_pattern = Wants(HookKind::kPattern, layer);
  if (!wants_scores && !wants_pattern && CanFuseAttention(q)) {
    FusedAttention(groups, maths);
    return !Ended(HookKind::kPattern, layer);
  }
  for (size_t i = 0; i < groups.size(); ++i) {
    const auto hook = [&](HookKind kind) -> AttentionFn {
      return [this, kind, layer, &group = groups_[i]](torch::Tensor& value) {
        RunHooks(kind, layer, group.first_sequence, group.n_sequences, value);
      };
    };
    ComposedAttention(groups[i], maths, wants_scores ? hook(HookKind::kAttnScores) : nullptr,
                      wants_pattern ? hook(HookKind::kPattern) : nullptr);
  }
  return !Ended(HookKind::kPattern, layer);
}

bool ForwardPass::Mlp(int layer) {
  const BlockWeights& block = weights_.blocks[static_cast<size_t>(layer)];
  torch::Tensor normed;
  if (!Norm(block.ln2, HookKind::kLn2Normalized, layer, &normed)) return false;
  torch::Tensor pre = Apply(block.mlp_in, normed, mlp_in_);
  if (!Pass(HookKind::kMlpPre, layer, pre)) return false;
  torch::Tensor up;
  if (config_.gated_mlp) {
    up = Apply(block.mlp_up, normed, mlp_up_);
    if (!Pass(HookKind::kMlpPreLinear, layer, up)) return false;
  }
  torch::Tensor post = Wants(HookKind::kMlpPre, layer) ? pre.clone() : pre;
  ActivateInPlace(config_.activation, post, up);
  if (!Pass(HookKind::kMlpPost, layer, post)) return false;
  torch::Tensor out = PostNormed(block.mlp_post_norm, Apply(block.mlp_out, post, mlp_result_));
  if (!Pass(HookKind::kMlpOut, layer, out)) return false;
  if (config_.parallel_residual) {
    AddToResidual(attn_out_);
    attn_out_.reset();
  }
  AddToResidual(out);
  return Pass(HookKind::kResidPost, layer, residual_);
}

torch::Tensor ForwardPass::Unembed() {
  torch::Tensor normed;
  if (!Norm(weights_.ln_final, HookKind::kLnFinal, -1, &normed)) return {};
  if (options_.logits == LogitsOf::kLastToken && batch_.n_sequences() < n_) {
    torch::Tensor last = torch::empty({batch_.n_sequences()}, torch::kInt64);
    for (int64_t i = 0; i < batch_.n_sequences(); ++i) {
      last[i] = batch_.offsets[static_cast<size_t>(i + 1)] - 1;
    }
    normed = normed.index_select(0, last.to(normed.device()));
  }
  torch::Tensor logits = torch::mm(normed, weights_.unembed).to(torch::kFloat32);
  if (config_.logit_soft_cap > 0) SoftCapInPlace(config_.logit_soft_cap, logits);
  return logits;
}

void ForwardPass::AdvanceCaches() const {
  for (size_t i = 0; i < batch_.caches.size(); ++i) {
    batch_.caches[i]->Advance(batch_.offsets[i + 1] - batch_.offsets[i]);
  }
}

}  // namespace

absl::StatusOr<torch::Tensor> RunForward(const ModelConfig& config, const ModelWeights& weights,
                                         const SequenceBatch& batch,
                                         const ForwardOptions& options) {
  return ForwardPass(config, weights, batch, options).Run();
}

}  // namespace featurescope
