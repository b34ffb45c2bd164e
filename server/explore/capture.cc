#include "server/explore/capture.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "server/base/status.h"
#include "server/model/hooks.h"
#include "server/tensor/gate.h"
#include "server/tensor/torch.h"

namespace featurescope {
namespace {

// Of all tensors of the texts that go through the model together. A larger text goes alone.
constexpr uint64_t kGroupBytes = 64ull << 20;
constexpr size_t kGroupTokens = 1024;

bool HasQueryAndKey(HookKind kind) {
  return kind == HookKind::kAttnScores || kind == HookKind::kPattern;
}

// A tensor that the request asks for.
struct Wanted {
  std::string name;
  HookPoint hook;
  std::vector<int64_t> shape;  // without [pos]; of scores and patterns {head, -1, -1}
  bool logits = false;

  std::vector<uint64_t> ShapeFor(uint64_t n_tokens, uint64_t n_positions) const {
    std::vector<uint64_t> full;
    if (!HasQueryAndKey(hook.kind) || logits) full.push_back(n_positions);
    for (const int64_t size : shape) {
      full.push_back(size < 0 ? n_tokens : static_cast<uint64_t>(size));
    }
    return full;
  }
};

uint64_t Elements(const std::vector<uint64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>());
}

absl::StatusOr<std::vector<Wanted>> WantedTensors(const CaptureRequest& request) {
  const ModelConfig& config = request.model.model->config();
  std::vector<Wanted> wanted;
  std::set<std::string> names;
  for (const std::string& name : request.hook_names) {
    Wanted tensor;
    tensor.name = name;
    ASSIGN_OR_RETURN(tensor.hook, HookPoint::Parse(name));
    ASSIGN_OR_RETURN(tensor.shape, config.HookShape(tensor.hook));
    if (!request.positions.empty() && HasQueryAndKey(tensor.hook.kind)) {
      return InvalidArgument("positions cannot be chosen of ", name,
                             ": ask for it in a call of its own");
    }
    if (!names.insert(name).second) return InvalidArgument("hook ", name, " is named twice");
    wanted.push_back(std::move(tensor));
  }
  if (request.logits) {
    Wanted logits;
    logits.name = "logits";
    logits.shape = {config.d_vocab};
    logits.logits = true;
    wanted.push_back(std::move(logits));
  }
  if (wanted.empty()) return InvalidArgument("there is nothing to capture: name hooks or logits");
  return wanted;
}

// A text of the request and what was captured of it.
struct Text {
  uint32_t input = 0;
  std::vector<uint32_t> ids;
  uint64_t bytes = 0;
  std::vector<torch::Tensor> tensors;  // one for each Wanted, float32 on the CPU, contiguous
};

absl::StatusOr<std::vector<Text>> Texts(const CaptureRequest& request,
                                        const std::vector<Wanted>& wanted) {
  if (request.inputs.empty()) return InvalidArgument("there are no inputs");
  std::vector<Text> texts;
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const std::string name = absl::StrCat("inputs[", i, "]");
    Text text;
    text.input = static_cast<uint32_t>(i);
    ASSIGN_OR_RETURN(text.ids, TokenIdsOf(request.model, request.inputs[i], name));
    for (const uint32_t position : request.positions) {
      if (position >= text.ids.size()) {
        return InvalidArgument("position ", position, " is out of range [0, ", text.ids.size(),
                               ") in ", name);
      }
    }
    const uint64_t n_positions =
        request.positions.empty() ? text.ids.size() : request.positions.size();
    for (const Wanted& tensor : wanted) {
      text.bytes += 4 * Elements(tensor.ShapeFor(text.ids.size(), n_positions));
    }
    if (text.bytes > kMaxCaptureBytesPerText) {
      return InvalidArgument(name, " would give ", text.bytes, " bytes, the limit is ",
                             kMaxCaptureBytesPerText, ": ask for fewer hooks or positions");
    }
    text.tensors.resize(wanted.size());
    texts.push_back(std::move(text));
  }
  return texts;
}

torch::Tensor CopyToCpu(const torch::Tensor& value) {
  return value
      .to(torch::TensorOptions(torch::kCPU).dtype(torch::kFloat32), /*non_blocking=*/false,
          /*copy=*/true)
      .contiguous();
}

// One pass over texts [begin, end).
class CapturePass {
 public:
  CapturePass(const CaptureRequest& request, const std::vector<Wanted>& wanted,
              absl::Span<Text> texts)
      : request_(request), wanted_(wanted), texts_(texts) {
    for (const Text& text : texts_) batch_.Append(text.ids);
  }

  absl::Status Run() {
    return TorchGate("capturing activations", [&]() -> absl::Status {
      HookSet hooks;
      for (size_t w = 0; w < wanted_.size(); ++w) {
        if (wanted_[w].logits) continue;
        hooks.Add(wanted_[w].hook, [this, w](const HookContext& context, torch::Tensor& value) {
          if (HasQueryAndKey(context.hook.kind)) {
            TakeMatrices(w, context, value);
          } else {
            TakeRows(w, value);
          }
        });
      }
      ForwardOptions options;
      options.hooks = &hooks;
      options.cancel = request_.cancel;
      if (request_.logits) options.logits = LogitsOf::kAllTokens;
      ASSIGN_OR_RETURN(const torch::Tensor logits, request_.model.model->Forward(batch_, options));
      if (request_.logits) TakeRows(wanted_.size() - 1, logits);
      return absl::OkStatus();
    });
  }

 private:
  void TakeRows(size_t w, const torch::Tensor& value) {
    for (size_t t = 0; t < texts_.size(); ++t) {
      const int64_t begin = batch_.offsets[t];
      torch::Tensor rows = value.narrow(0, begin, batch_.offsets[t + 1] - begin);
      if (!request_.positions.empty()) {
        const std::vector<int64_t> positions(request_.positions.begin(), request_.positions.end());
        rows = rows.index_select(0, torch::tensor(positions, torch::kInt64).to(rows.device()));
      }
      texts_[t].tensors[w] = CopyToCpu(rows);
    }
  }

  void TakeMatrices(size_t w, const HookContext& context, const torch::Tensor& value) {
    for (int64_t i = 0; i < context.n_sequences; ++i) {
      texts_[static_cast<size_t>(context.first_sequence + i)].tensors[w] = CopyToCpu(value[i]);
    }
  }

  const CaptureRequest& request_;
  const std::vector<Wanted>& wanted_;
  const absl::Span<Text> texts_;
  SequenceBatch batch_;
};

absl::Status Stopped() { return absl::CancelledError("the receiver stopped the capture"); }

absl::Status SendIds(const Text& text, const std::function<bool(const CapturePiece&)>& on_piece) {
  CapturePiece piece;
  piece.input = text.input;
  piece.name = "input_ids";
  piece.shape = {text.ids.size()};
  const absl::Span<const uint32_t> ids = text.ids;
  for (; piece.offset < ids.size(); piece.offset += kMaxPieceElements) {
    piece.ids = ids.subspan(piece.offset, kMaxPieceElements);
    if (!on_piece(piece)) return Stopped();
  }
  return absl::OkStatus();
}

absl::Status SendTensor(const Text& text, const Wanted& wanted, const torch::Tensor& tensor,
                        const std::function<bool(const CapturePiece&)>& on_piece) {
  CapturePiece piece;
  piece.input = text.input;
  piece.name = wanted.name;
  piece.shape.assign(tensor.sizes().begin(), tensor.sizes().end());
  const absl::Span<const float> values(tensor.data_ptr<float>(),
                                       static_cast<size_t>(tensor.numel()));
  for (; piece.offset < values.size(); piece.offset += kMaxPieceElements) {
    piece.values = values.subspan(piece.offset, kMaxPieceElements);
    if (!on_piece(piece)) return Stopped();
  }
  return absl::OkStatus();
}

// The end of the group of texts that begins at `begin`.
size_t GroupEnd(const std::vector<Text>& texts, size_t begin) {
  uint64_t bytes = texts[begin].bytes;
  size_t n_tokens = texts[begin].ids.size();
  size_t end = begin + 1;
  for (; end < texts.size(); ++end) {
    bytes += texts[end].bytes;
    n_tokens += texts[end].ids.size();
    if (bytes > kGroupBytes || n_tokens > kGroupTokens) break;
  }
  return end;
}

}  // namespace

absl::Status CaptureActivations(const CaptureRequest& request, DeviceWorker& worker,
                                const std::function<bool(const CapturePiece&)>& on_piece) {
  ASSIGN_OR_RETURN(const std::vector<Wanted> wanted, WantedTensors(request));
  ASSIGN_OR_RETURN(std::vector<Text> texts, Texts(request, wanted));
  // The next group is computed when the one before it has been taken, so that a slow receiver costs
  // the memory of one group.
  for (size_t begin = 0; begin < texts.size();) {
    const size_t end = GroupEnd(texts, begin);
    const absl::Span<Text> group = absl::MakeSpan(texts).subspan(begin, end - begin);
    RETURN_IF_ERROR(worker.RunInteractive(
        request.cancel, [&] { return CapturePass(request, wanted, group).Run(); }));
    for (Text& text : group) {
      RETURN_IF_ERROR(SendIds(text, on_piece));
      for (size_t w = 0; w < wanted.size(); ++w) {
        RETURN_IF_ERROR(request.cancel.Check());
        RETURN_IF_ERROR(SendTensor(text, wanted[w], text.tensors[w], on_piece));
        text.tensors[w] = torch::Tensor();
      }
    }
    begin = end;
  }
  return absl::OkStatus();
}

}  // namespace featurescope
