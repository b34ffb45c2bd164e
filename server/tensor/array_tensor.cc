#include "server/tensor/array_tensor.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/tensor_shape.h"
#include "server/formats/torch_writer.h"
#include "server/formats/utf8.h"
#include "server/tensor/gate.h"
#include "server/tensor/weights.h"

namespace featurescope {
namespace {

// Converted at a time: small against any model, large against a read's cost.
constexpr int64_t kChunkElements = int64_t{1} << 20;

std::string Named(absl::string_view path, absl::string_view kind, absl::string_view name) {
  return absl::StrCat(path, ": ", kind, " \"", PrintableUtf8(name, 200), "\"");
}

absl::StatusOr<DType> ToDType(torch::ScalarType type, absl::string_view where) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64, DType::kI32,
                      DType::kI16, DType::kI8, DType::kU8, DType::kBool}) {
    if (ToScalarType(dtype) == type) return dtype;
  }
  return Unimplemented(where, ": torch.save files of ours cannot hold dtype ", c10::toString(type));
}

// Memory for `n` elements as they are stored. A byte other than 0 and 1 is no valid bool in memory:
// those are held as bytes.
torch::Tensor RawBuffer(int64_t n, DType dtype) {
  return torch::empty({n}, dtype == DType::kBool ? torch::kUInt8 : ToScalarType(dtype));
}

absl::Span<char> BytesOf(const torch::Tensor& contiguous) {
  return absl::MakeSpan(static_cast<char*>(contiguous.data_ptr()), contiguous.nbytes());
}

// Raw elements [n] in the dtype that is wanted.
torch::Tensor Converted(const torch::Tensor& raw, DType stored, torch::ScalarType dtype) {
  return (stored == DType::kBool ? raw.ne(0) : raw).to(dtype);
}

// The first place in `values` [n] that is not finite, or -1.
int64_t FirstNonFinite(const torch::Tensor& values) {
  if (!values.is_floating_point()) return -1;
  const torch::Tensor finite = torch::isfinite(values.to(torch::kFloat32));
  if (finite.all().item<bool>()) return -1;
  return finite.logical_not().nonzero()[0].item<int64_t>();
}

// Fills a row-major tensor with elements that come in the order in which they are stored.
class Filler {
 public:
  // `order`: the dimensions from the one that runs slowest in the file to the fastest.
  Filler(absl::Span<const int64_t> shape, std::vector<int64_t> order, DType stored,
         torch::TensorOptions options, NonFinite non_finite, std::string where)
      : stored_(stored),
        non_finite_(non_finite),
        where_(std::move(where)),
        result_(torch::empty(torch::IntArrayRef(shape.data(), shape.size()), options)),
        raw_(RawBuffer(std::min(result_.numel(), kChunkElements), stored)) {
    // A dimension of size 1 may stand anywhere; at the end it leaves rows to the first one.
    std::stable_partition(order.begin(), order.end(), [&](int64_t dim) { return shape[dim] != 1; });
    as_stored_ = result_.permute(order);
    if (as_stored_.is_contiguous()) return;
    row_elements_ = as_stored_[0].numel();
    const int64_t rows = std::clamp<int64_t>(kChunkElements / row_elements_, 1, shape[order[0]]);
    staged_ = torch::empty({rows * row_elements_}, options.device(torch::kCPU));
  }

  // Room for `n` raw elements, n <= kChunkElements.
  torch::Tensor Buffer(int64_t n) const { return raw_.narrow(0, 0, n); }

  // The next elements, raw [n].
  absl::Status Put(const torch::Tensor& raw) {
    // Checked after the conversion: a value may be too large for the narrower type.
    const torch::Tensor values = Converted(raw, stored_, result_.scalar_type());
    if (non_finite_ == NonFinite::kRefuse) {
      const int64_t bad = FirstNonFinite(values);
      if (bad >= 0) {
        return InvalidArgument(where_, ": element ", done_ + bad, " is not finite (",
                               values[bad].item<double>(), ")");
      }
    }
    if (!staged_.defined()) {
      as_stored_.view({-1}).narrow(0, done_, values.numel()).copy_(values);
      done_ += values.numel();
      return absl::OkStatus();
    }
    for (int64_t at = 0; at < values.numel();) {
      const int64_t n = std::min(values.numel() - at, staged_.numel() - n_staged_);
      staged_.narrow(0, n_staged_, n).copy_(values.narrow(0, at, n));
      n_staged_ += n;
      done_ += n;
      at += n;
      if (n_staged_ == staged_.numel() || done_ == result_.numel()) PutRows();
    }
    return absl::OkStatus();
  }
  absl::Status Put(absl::Span<const char> bytes) {
    const torch::Tensor raw = Buffer(static_cast<int64_t>(bytes.size()) / DTypeSize(stored_));
    std::memcpy(raw.data_ptr(), bytes.data(), bytes.size());
    return Put(raw);
  }

  torch::Tensor Take() { return std::move(result_); }

 private:
  // Moves whole rows from the stage to their places.
  void PutRows() {
    const int64_t rows = n_staged_ / row_elements_;
    std::vector<int64_t> sizes = as_stored_.sizes().vec();
    sizes[0] = rows;
    as_stored_.narrow(0, row_, rows).copy_(staged_.narrow(0, 0, n_staged_).view(sizes));
    row_ += rows;
    n_staged_ = 0;
  }

  const DType stored_;
  const NonFinite non_finite_;
  const std::string where_;
  torch::Tensor result_;
  torch::Tensor raw_;        // [<= kChunkElements] as in the file
  torch::Tensor as_stored_;  // a view of result_, its dimensions in the order of the file
  int64_t done_ = 0;         // elements
  // Only where the file's order is not the result's: rows of as_stored_ on their way.
  torch::Tensor staged_;
  int64_t row_elements_ = 0;
  int64_t n_staged_ = 0;
  int64_t row_ = 0;
};

std::vector<int64_t> RowMajor(size_t n_dims) {
  std::vector<int64_t> order(n_dims);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

absl::Status CheckShape(absl::Span<const int64_t> shape, absl::Span<const int64_t> expected,
                        const std::string& where) {
  bool fits = shape.size() == expected.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = expected[i] == -1 || expected[i] == shape[i];
  }
  if (fits) return absl::OkStatus();
  return InvalidArgument(where, " has shape ", ShapeText(shape), ", expected is ",
                         ShapeText(expected), " (-1: any size)");
}

absl::StatusOr<torch::Tensor> LoadArray(const NpzFile& file, const NpzArray& array,
                                        torch::TensorOptions options, NonFinite non_finite,
                                        const std::string& where) {
  std::vector<int64_t> order = RowMajor(array.shape.size());
  if (array.fortran_order) std::reverse(order.begin(), order.end());
  Filler filler(array.shape, order, array.dtype, options, non_finite, where);
  RETURN_IF_ERROR(
      file.Stream(array, [&](absl::Span<const char> piece) { return filler.Put(piece); }));
  return filler.Take();
}

// How the elements of a view lie in its storage.
struct Layout {
  std::vector<int64_t> order;  // dimensions, slowest first
  bool dense = false;          // in that order without gaps
  int64_t span = 0;            // elements from the first to the last
};

Layout LayoutOf(const TorchTensor& tensor) {
  Layout layout;
  layout.order = RowMajor(tensor.shape.size());
  // Dimensions of size 1 go last: their strides say nothing.
  std::stable_sort(layout.order.begin(), layout.order.end(), [&](int64_t a, int64_t b) {
    if (tensor.shape[a] == 1 || tensor.shape[b] == 1) return tensor.shape[a] > tensor.shape[b];
    return tensor.strides[a] > tensor.strides[b];
  });
  layout.dense = true;
  layout.span = 1;
  int64_t expected = 1;
  for (size_t i = layout.order.size(); i-- > 0;) {
    const int64_t dim = layout.order[i];
    if (tensor.shape[dim] == 1) continue;
    layout.dense &= tensor.strides[dim] == expected;
    expected *= tensor.shape[dim];
    layout.span += (tensor.shape[dim] - 1) * tensor.strides[dim];
  }
  return layout;
}

// Reads elements [begin, begin + n) of a storage into the filler.
absl::Status ReadRange(const TorchFile& file, const TorchStorage& storage, int64_t begin, int64_t n,
                       Filler* filler) {
  const int64_t element_bytes = DTypeSize(storage.dtype);
  for (int64_t done = 0; done < n; done += kChunkElements) {
    const torch::Tensor raw = filler->Buffer(std::min(kChunkElements, n - done));
    RETURN_IF_ERROR(
        file.Read(storage, static_cast<uint64_t>((begin + done) * element_bytes), BytesOf(raw)));
    RETURN_IF_ERROR(filler->Put(raw));
  }
  return absl::OkStatus();
}

absl::StatusOr<torch::Tensor> LoadView(const TorchFile& file, const TorchTensor& tensor,
                                       torch::TensorOptions options, NonFinite non_finite,
                                       const std::string& where) {
  const TorchStorage& storage = file.storage_of(tensor);
  const int64_t n = tensor.n_elements();
  if (n == 0) return torch::empty(tensor.shape, options);
  const Layout layout = LayoutOf(tensor);
  if (layout.dense) {
    Filler filler(tensor.shape, layout.order, storage.dtype, options, non_finite, where);
    if (static_cast<uint64_t>(n) == storage.n_elements) {
      RETURN_IF_ERROR(
          file.Stream(storage, [&](absl::Span<const char> piece) { return filler.Put(piece); }));
    } else {
      RETURN_IF_ERROR(file.Verify(storage));
      RETURN_IF_ERROR(ReadRange(file, storage, tensor.offset, n, &filler));
    }
    return filler.Take();
  }
  // A slice with gaps: what lies in them is not the tensor's, so it is not looked at.
  RETURN_IF_ERROR(file.Verify(storage));
  Filler filler({layout.span}, {0}, storage.dtype, options, NonFinite::kAllow, where);
  RETURN_IF_ERROR(ReadRange(file, storage, tensor.offset, layout.span, &filler));
  torch::Tensor result =
      filler.Take().as_strided(tensor.shape, tensor.strides).clone(at::MemoryFormat::Contiguous);
  const int64_t bad = non_finite == NonFinite::kRefuse ? FirstNonFinite(result.view({-1})) : -1;
  if (bad < 0) return result;
  return InvalidArgument(where, ": element ", bad, " is not finite (",
                         result.view({-1})[bad].item<double>(), ")");
}

absl::StatusOr<torch::Tensor> LoadRowsInPieces(const RawMemmap& file, int64_t begin, int64_t n,
                                               torch::TensorOptions options, NonFinite non_finite) {
  torch::Tensor result = torch::empty({n, file.d_in()}, options);
  const int64_t rows_at_once = std::max<int64_t>(1, kChunkElements / file.d_in());
  const torch::Tensor raw = RawBuffer(std::min(n, rows_at_once) * file.d_in(), file.dtype());
  for (int64_t row = 0; row < n; row += rows_at_once) {
    const int64_t rows = std::min(rows_at_once, n - row);
    const torch::Tensor piece = raw.narrow(0, 0, rows * file.d_in());
    RETURN_IF_ERROR(file.ReadRows(begin + row, rows, BytesOf(piece)));
    const torch::Tensor values = Converted(piece, file.dtype(), result.scalar_type());
    const int64_t bad = non_finite == NonFinite::kRefuse ? FirstNonFinite(values) : -1;
    if (bad >= 0) {
      return InvalidArgument(file.path(), ": row ", begin + row + bad / file.d_in(), ", column ",
                             bad % file.d_in(), " is not finite (", values[bad].item<double>(),
                             ")");
    }
    result.narrow(0, row, rows).copy_(values.view({rows, file.d_in()}));
  }
  return result;
}

}  // namespace

absl::StatusOr<torch::Tensor> LoadTensor(const NpzFile& file, const NpzArray& array,
                                         torch::ScalarType dtype, torch::Device device,
                                         NonFinite non_finite) {
  const std::string where = Named(file.path(), "array", array.name);
  return TorchGate(absl::StrCat(where, ": loading"), [&] {
    return LoadArray(file, array, torch::dtype(dtype).device(device), non_finite, where);
  });
}

absl::StatusOr<torch::Tensor> LoadTensor(const NpzFile& file, absl::string_view name,
                                         absl::Span<const int64_t> shape, torch::ScalarType dtype,
                                         torch::Device device, NonFinite non_finite) {
  ASSIGN_OR_RETURN(const NpzArray* array, file.Get(name));
  RETURN_IF_ERROR(CheckShape(array->shape, shape, Named(file.path(), "array", name)));
  return LoadTensor(file, *array, dtype, device, non_finite);
}

absl::StatusOr<torch::Tensor> LoadTensor(const TorchFile& file, const TorchTensor& tensor,
                                         absl::string_view name, torch::ScalarType dtype,
                                         torch::Device device, NonFinite non_finite) {
  const std::string where = Named(file.path(), "tensor", name);
  return TorchGate(absl::StrCat(where, ": loading"), [&] {
    return LoadView(file, tensor, torch::dtype(dtype).device(device), non_finite, where);
  });
}

absl::StatusOr<torch::Tensor> LoadTensor(const TorchFile& file, const TorchValue& dict,
                                         absl::string_view name, absl::Span<const int64_t> shape,
                                         torch::ScalarType dtype, torch::Device device,
                                         NonFinite non_finite) {
  ASSIGN_OR_RETURN(const TorchTensor* tensor, file.GetTensor(dict, name));
  RETURN_IF_ERROR(CheckShape(tensor->shape, shape, Named(file.path(), "tensor", name)));
  return LoadTensor(file, *tensor, name, dtype, device, non_finite);
}

absl::StatusOr<torch::Tensor> LoadRows(const RawMemmap& file, int64_t begin, int64_t n,
                                       torch::ScalarType dtype, torch::Device device,
                                       NonFinite non_finite) {
  // Before memory is taken for them.
  if (begin < 0 || n < 0 || begin > file.n_rows() || n > file.n_rows() - begin) {
    return OutOfRange(file.path(), ": rows [", begin, ", +", n, ") are out of range [0, ",
                      file.n_rows(), ")");
  }
  return TorchGate(absl::StrCat(file.path(), ": loading rows"), [&] {
    return LoadRowsInPieces(file, begin, n, torch::dtype(dtype).device(device), non_finite);
  });
}

absl::Status SaveStateDict(const std::string& path,
                           const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
  std::vector<TorchStateDictWriter::Spec> specs;
  for (const auto& [name, tensor] : tensors) {
    ASSIGN_OR_RETURN(const DType dtype, ToDType(tensor.scalar_type(), Named(path, "tensor", name)));
    specs.push_back({name, dtype, tensor.sizes().vec()});
  }
  ASSIGN_OR_RETURN(TorchStateDictWriter writer, TorchStateDictWriter::Create(path, specs));
  for (const auto& [name, tensor] : tensors) {
    ASSIGN_OR_RETURN(const torch::Tensor row_major,
                     TorchGate(absl::StrCat(Named(path, "tensor", name), ": saving"),
                               [&t = tensor] { return t.detach().to(torch::kCPU).contiguous(); }));
    RETURN_IF_ERROR(writer.Append(name, BytesOf(row_major)));
  }
  return writer.Finish();
}

}  // namespace featurescope
