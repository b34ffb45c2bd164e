#include "server/sae/sae.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/sae/architectures.h"
#include "server/tensor/gate.h"
#include "server/tensor/sparse_ops.h"

namespace featurescope {
namespace {

// The piece of hidden_pre that exists at a time.
constexpr int64_t kPieceBytes = 32 << 20;
constexpr int64_t kMaxWidth = 1 << 24;

int64_t PieceRows(int64_t d_sae) {
  const int64_t rows = kPieceBytes / (static_cast<int64_t>(sizeof(float)) * d_sae);
  return std::max<int64_t>(rows / 16 * 16, 16);
}

// A buffer [rows, cols] that the thread keeps, because fresh pages cost more than the product that
// fills them. CUDA has its own cache of allocations.
torch::Tensor Scratch(int64_t rows, int64_t cols, const torch::Tensor& like) {
  if (!like.is_cpu()) return torch::empty({rows, cols}, like.options());
  thread_local torch::Tensor buffer;
  if (!buffer.defined() || buffer.numel() < rows * cols) {
    buffer = torch::empty({rows * cols}, torch::kFloat32);
  }
  return buffer.slice(0, 0, rows * cols).view({rows, cols});
}

absl::Status CheckParameter(absl::string_view name, torch::Tensor& tensor,
                            std::vector<int64_t> shape) {
  if (!tensor.defined() || tensor.sizes() != at::IntArrayRef(shape)) {
    const std::string actual =
        tensor.defined() ? absl::StrCat("[", absl::StrJoin(tensor.sizes(), ", "), "]") : "missing";
    return InvalidArgument(name, " is ", actual, " instead of [", absl::StrJoin(shape, ", "), "]");
  }
  tensor = tensor.detach().to(torch::kFloat32).contiguous();
  if (!torch::isfinite(tensor).all().item<bool>()) {
    return InvalidArgument(name, " has values that are not finite");
  }
  return absl::OkStatus();
}

const SaeArchitecture* FindArchitecture(absl::string_view name) {
  for (const SaeArchitecture& architecture : kSaeArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

}  // namespace

absl::string_view NormalizeActivationsName(NormalizeActivations mode) {
  switch (mode) {
    case NormalizeActivations::kNone:
      return "none";
    case NormalizeActivations::kExpectedAverageOnlyIn:
      return "expected_average_only_in";
    case NormalizeActivations::kConstantNormRescale:
      return "constant_norm_rescale";
    case NormalizeActivations::kLayerNorm:
      return "layer_norm";
  }
  return "";
}

absl::Status CheckSaeArchitecture(absl::string_view name) {
  if (FindArchitecture(name) != nullptr) return absl::OkStatus();
  return Unimplemented(
      "SAE architecture '", name, "' is not supported; these are: ",
      absl::StrJoin(kSaeArchitectures, ", ", [](std::string* out, const SaeArchitecture& known) {
        absl::StrAppend(out, known.name);
      }));
}

absl::StatusOr<std::shared_ptr<const Sae>> Sae::Create(SaeConfig config, SaeParameters parameters) {
  RETURN_IF_ERROR(CheckSaeArchitecture(config.architecture));
  const SaeArchitecture* architecture = FindArchitecture(config.architecture);
  if (config.d_in < 1 || config.d_in > kMaxWidth || config.d_sae < 1 || config.d_sae > kMaxWidth) {
    return InvalidArgument("d_in ", config.d_in, " and d_sae ", config.d_sae, " must lie in [1, ",
                           kMaxWidth, "]");
  }
  return TorchGate("making an SAE", [&]() -> absl::StatusOr<std::shared_ptr<const Sae>> {
    SaeParameters& p = parameters;
    RETURN_IF_ERROR(CheckParameter("W_enc", p.W_enc, {config.d_in, config.d_sae}));
    RETURN_IF_ERROR(CheckParameter("b_enc", p.b_enc, {config.d_sae}));
    RETURN_IF_ERROR(CheckParameter("W_dec", p.W_dec, {config.d_sae, config.d_in}));
    RETURN_IF_ERROR(CheckParameter("b_dec", p.b_dec, {config.d_in}));
    ASSIGN_OR_RETURN(std::shared_ptr<Sae> sae,
                     architecture->make(std::move(config), std::move(parameters)));
    return sae;
  });
}

uint64_t Sae::memory_bytes() const {
  return sizeof(float) *
         static_cast<uint64_t>(2 * config_.d_in * config_.d_sae + config_.d_sae + config_.d_in);
}

absl::StatusOr<torch::Tensor> Sae::AsRows(const torch::Tensor& x) const {
  if (!x.defined() || x.dim() < 1) return InvalidArgument("the SAE's input has no rows");
  const int64_t n = x.dim() == 1 ? 1 : x.size(0);
  const int64_t width = n == 0 ? config_.d_in : x.numel() / n;
  if (width != config_.d_in) {
    return InvalidArgument("vectors of ", width, " values; the SAE takes ", config_.d_in);
  }
  return x.detach().to(device(), torch::kFloat32).reshape({n, config_.d_in}).contiguous();
}

torch::Tensor Sae::Normalize(const torch::Tensor& x, RowNormalization* normalization) const {
  torch::Tensor rows = x;  // [n, d_in]
  switch (config_.normalize_activations) {
    case NormalizeActivations::kNone:
    case NormalizeActivations::kExpectedAverageOnlyIn:
      break;
    case NormalizeActivations::kConstantNormRescale: {
      const torch::Tensor norm = rows.norm(2, {1}, /*keepdim=*/true);
      const torch::Tensor scale = norm / std::sqrt(static_cast<double>(config_.d_in));
      normalization->scale = scale;
      rows = rows / scale.masked_fill(scale == 0, 1);  // a zero row stays zero
      break;
    }
    case NormalizeActivations::kLayerNorm: {
      const torch::Tensor mean = rows.mean(1, /*keepdim=*/true);
      const torch::Tensor centred = rows - mean;
      const torch::Tensor std = centred.std(1, /*unbiased=*/true, /*keepdim=*/true);
      normalization->shift = mean;
      normalization->scale = std;
      rows = centred / (std + 1e-5);
      break;
    }
  }
  return config_.apply_b_dec_to_input ? rows - parameters_.b_dec : rows;
}

SparseRows Sae::ActivateInPieces(const torch::Tensor& x) const {
  const int64_t n = x.size(0);
  const int64_t piece = std::min(PieceRows(config_.d_sae), std::max<int64_t>(n, 1));
  std::vector<SparseRows> parts;
  int64_t begin = 0;
  do {
    const int64_t end = std::min(begin + piece, n);
    torch::Tensor hidden_pre = Scratch(end - begin, config_.d_sae, x);
    at::mm_out(hidden_pre, x.slice(0, begin, end), parameters_.W_enc);
    parts.push_back(Activate(hidden_pre));
    begin = end;
  } while (begin < n);
  return Concatenate(parts);
}

torch::Tensor Sae::ActivateFeatures(const torch::Tensor& x, const torch::Tensor& features) const {
  const int64_t piece = PieceRows(config_.d_sae);
  std::vector<torch::Tensor> parts = {torch::empty({0, features.size(0)}, x.options())};
  for (int64_t begin = 0; begin < x.size(0); begin += piece) {
    const SparseRows acts = ActivateInPieces(x.slice(0, begin, std::min(begin + piece, x.size(0))));
    parts.push_back(acts.ToDense().index_select(1, features));
  }
  return torch::cat(parts);
}

absl::StatusOr<EncodedRows> Sae::Encode(const torch::Tensor& x) const {
  return TorchGate("encoding", [&]() -> absl::StatusOr<EncodedRows> {
    ASSIGN_OR_RETURN(const torch::Tensor rows, AsRows(x));
    EncodedRows encoded;
    encoded.acts = ActivateInPieces(Normalize(rows, &encoded.normalization));
    return encoded;
  });
}

absl::StatusOr<torch::Tensor> Sae::EncodeFeatures(const torch::Tensor& x,
                                                  absl::Span<const uint32_t> features) const {
  std::vector<int64_t> indices;
  for (uint32_t feature : features) {
    if (feature >= config_.d_sae) {
      return InvalidArgument("feature ", feature, " is out of range [0, ", config_.d_sae, ")");
    }
    indices.push_back(feature);
  }
  return TorchGate("encoding features", [&]() -> absl::StatusOr<torch::Tensor> {
    ASSIGN_OR_RETURN(const torch::Tensor rows, AsRows(x));
    RowNormalization normalization;
    return ActivateFeatures(Normalize(rows, &normalization),
                            torch::tensor(indices, torch::kInt64).to(device()));
  });
}

torch::Tensor Sae::Decode(const EncodedRows& encoded) const {
  torch::NoGradGuard no_grad;
  torch::Tensor x_hat =
      SparseTimesDense(DecoderInput(encoded.acts), parameters_.W_dec).add_(parameters_.b_dec);
  if (encoded.normalization.scale.defined()) x_hat.mul_(encoded.normalization.scale);
  if (encoded.normalization.shift.defined()) x_hat.add_(encoded.normalization.shift);
  return x_hat;
}

torch::Tensor Sae::FeatureDirection(uint32_t feature) const {
  torch::NoGradGuard no_grad;
  SparseRows one;
  const torch::Device where = device();
  one.row_offsets = torch::tensor({0, 1}, torch::kInt64).to(where);
  one.indices = torch::full({1}, static_cast<int64_t>(feature), torch::kInt32).to(where);
  one.values = torch::ones({1}).to(where);
  one.n_cols = config_.d_sae;
  return SparseTimesDense(DecoderInput(one), parameters_.W_dec)[0];
}

}  // namespace featurescope
