#include "server/index/activation_source.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "server/base/status.h"
#include "server/catalog/hook_values.h"
#include "server/tensor/gate.h"
#include "server/tensor/sparse_rows.h"

namespace featurescope {
namespace {

// A context that takes longer than a quantum, but not longer than so many, is computed at once:
// going on from a cache costs the layers above the hook.
constexpr int64_t kMaxOverrun = 2;

}  // namespace

std::vector<bool> SpecialTokens(const IndexInputs& inputs) {
  const auto n = static_cast<uint32_t>(inputs.model->config().d_vocab);
  std::vector<bool> special(n, false);
  auto mark = [&special, n](uint32_t id) {
    if (id < n) special[id] = true;
  };
  if (inputs.tokenizer != nullptr) {
    for (uint32_t id = 0; id < n; ++id) special[id] = inputs.tokenizer->IsSpecial(id);
  } else {
    if (inputs.model->config().bos_id.has_value()) mark(*inputs.model->config().bos_id);
    for (uint32_t id : inputs.model->config().eos_ids) mark(id);
  }
  if (inputs.corpus->prepend_bos()) mark(inputs.corpus->bos_id());
  return special;
}

ActivationsByFeature ActivationBatch::by_feature() const {
  ActivationsByFeature view;
  view.first_context = first_context;
  view.context_begin = context_begin;
  view.counted = counted;
  view.column_offsets = {column_offsets.data_ptr<int64_t>(),
                         static_cast<size_t>(column_offsets.numel())};
  view.rows = {rows.data_ptr<int32_t>(), static_cast<size_t>(rows.numel())};
  view.values = {values.data_ptr<float>(), static_cast<size_t>(values.numel())};
  return view;
}

// What the quanta of one batch have given so far.
struct ContextActivations::Pieces {
  std::vector<SparseRows> acts;
  int64_t n_rows = 0;
  ReconstructionSums reconstruction;
};

ContextActivations::ContextActivations(const IndexInputs& inputs, const BatchPlan& plan,
                                       uint32_t decode_every)
    : inputs_(inputs), plan_(plan), decode_every_(decode_every), special_(SpecialTokens(inputs)) {}

// Which rows of a piece, which begins at row `first_row` of the batch, are decoded.
torch::Tensor ContextActivations::RowsToDecode(const ActivationBatch& batch, int64_t first_row,
                                               int64_t n_rows) const {
  std::vector<int64_t> rows;
  for (uint64_t c = 0; c < batch.n_contexts(); ++c) {
    if ((batch.first_context + c) % decode_every_ != 0) continue;
    const int64_t begin = std::max<int64_t>(batch.context_begin[c], first_row);
    const int64_t end = std::min<int64_t>(batch.context_begin[c + 1], first_row + n_rows);
    for (int64_t row = begin; row < end; ++row) {
      if (batch.counted[row]) rows.push_back(row - first_row);
    }
  }
  return torch::tensor(rows, torch::kInt64);
}

absl::Status ContextActivations::ComputePiece(const SequenceBatch& sequences, const RunContext& run,
                                              const ActivationBatch& batch, Pieces& pieces) const {
  torch::Tensor x;
  torch::Tensor target;  // what the SAE's output is measured against: x, but for transcoders
  HookSet hooks;
  const auto keep = [this](torch::Tensor* kept) {
    return [this, kept](const HookContext& at, torch::Tensor& value) {
      *kept = HookRows(value, at.hook, inputs_.center_writing_weights)
                  .to(inputs_.sae->device())
                  .contiguous();
    };
  };
  hooks.Add(inputs_.hook, keep(&x));  // [n, d_in]
  const bool two_hooks = inputs_.output_hook() != inputs_.hook;
  if (two_hooks) hooks.Add(inputs_.output_hook(), keep(&target));  // [n, d_out]
  ForwardOptions options;
  options.hooks = &hooks;
  options.cancel = run.cancel;
  RETURN_IF_ERROR(inputs_.model->Forward(sequences, options).status());
  if (!x.defined()) return Internal("the forward pass did not reach ", inputs_.hook.name());

  if (!two_hooks) target = x;
  if (!target.defined()) {
    return Internal("the forward pass did not reach ", inputs_.output_hook().name());
  }
  const Sae& sae = *inputs_.sae;
  ASSIGN_OR_RETURN(EncodedRows encoded, sae.Encode(x));
  const torch::Tensor decoded = RowsToDecode(batch, pieces.n_rows, x.size(0)).to(sae.device());
  if (decoded.numel() > 0) {
    const bool all = decoded.numel() == x.size(0);
    const torch::Tensor x_hat = sae.Decode(encoded);
    pieces.reconstruction.Add(all ? target : target.index_select(0, decoded),
                              all ? x_hat : x_hat.index_select(0, decoded));
  }
  pieces.n_rows += x.size(0);
  pieces.acts.push_back(std::move(encoded.acts));
  return absl::OkStatus();
}

absl::StatusOr<ActivationBatch> ContextActivations::Compute(uint64_t first, uint64_t n,
                                                            const RunContext& run) const {
  ActivationBatch batch;
  batch.first_context = first;
  std::vector<std::vector<uint32_t>> contexts(n);
  for (uint64_t c = 0; c < n; ++c) {
    RETURN_IF_ERROR(inputs_.corpus->Context(first + c, &contexts[c]));
    for (uint32_t id : contexts[c]) batch.counted.push_back(special_[id] ? 0 : 1);
    batch.context_begin.push_back(static_cast<int32_t>(batch.counted.size()));
  }

  std::vector<SequenceBatch> quanta;
  std::unique_ptr<KvCache> cache;
  if (static_cast<int64_t>(contexts[0].size()) <= kMaxOverrun * plan_.tokens_per_quantum) {
    quanta.emplace_back();
    for (const std::vector<uint32_t>& context : contexts) quanta.back().Append(context);
  } else {
    // One context that is too long for a quantum: piece by piece, continued through a cache.
    cache = inputs_.model->NewCache();
    const absl::Span<const uint32_t> context = contexts[0];
    for (size_t begin = 0; begin < context.size(); begin += plan_.tokens_per_quantum) {
      quanta.emplace_back();
      quanta.back().Append(context.subspan(begin, plan_.tokens_per_quantum), cache.get());
    }
  }

  Pieces pieces;
  for (size_t i = 0; i < quanta.size(); ++i) {
    auto compute = [&]() -> absl::Status {
      RETURN_IF_ERROR(ComputePiece(quanta[i], run, batch, pieces));
      if (i + 1 < quanta.size()) return absl::OkStatus();
      const SparseRows acts = pieces.acts.size() == 1 ? pieces.acts[0] : Concatenate(pieces.acts);
      const ColumnOrder columns = OrderByColumn(acts);
      batch.column_offsets = columns.column_offsets.cpu();
      batch.rows = columns.rows.cpu();
      batch.values = acts.values.index_select(0, columns.entries).cpu();
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(run.device->RunBackground(
        run.cancel, [&compute] { return TorchGate("indexing", compute); }));
  }
  batch.reconstruction = std::move(pieces.reconstruction);
  return batch;
}

}  // namespace featurescope
