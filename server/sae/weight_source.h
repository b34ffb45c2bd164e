// The tensors of a safetensors, .npz or torch.save file, all read in one way.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/formats/npz.h"
#include "server/formats/safetensors.h"
#include "server/formats/torch_file.h"
#include "server/tensor/torch.h"

namespace featurescope {

// An open file. Not thread-safe: it notes which tensors were asked for. Movable.
class WeightSource {
 public:
  // The container is recognised from the first bytes, whatever the file's name.
  //   errors  NotFound; InvalidArgument  none of the three, or damaged
  static absl::StatusOr<WeightSource> Open(const std::string& path);

  const std::string& path() const { return path_; }
  std::vector<std::string> names() const;
  bool Has(absl::string_view name) const;
  bool HasAll(absl::Span<const absl::string_view> names) const;
  // NotFound naming the file and the tensor.
  absl::StatusOr<std::vector<int64_t>> Shape(absl::string_view name) const;
  // Its rows and columns. InvalidArgument when it has other than two dimensions, or none of a kind.
  absl::StatusOr<std::pair<int64_t, int64_t>> MatrixShape(absl::string_view name) const;

  // Float32 on `device`, contiguous, finite. `shape` is checked.
  absl::StatusOr<torch::Tensor> Load(absl::string_view name, absl::Span<const int64_t> shape,
                                     torch::Device device);
  // The transpose of the file's matrix [rows, cols]: contiguous [cols, rows].
  absl::StatusOr<torch::Tensor> LoadTransposed(absl::string_view name, int64_t rows, int64_t cols,
                                               torch::Device device);
  // The only element of a tensor: of a scalar, or of a vector of one.
  absl::StatusOr<double> Scalar(absl::string_view name);
  // A vector of at most `max_size` whole numbers.
  absl::StatusOr<std::vector<int64_t>> Integers(absl::string_view name, int64_t max_size);

  // Marks a tensor, if there is one, as one that the numbers do not depend on.
  void Ignore(absl::string_view name) { used_.insert(std::string(name)); }
  // InvalidArgument naming a tensor that was neither loaded nor ignored: without it the SAE would
  // not be what the file means. `kind` is what it was read as, e.g. "a standard SAE".
  absl::Status CheckAllUsed(absl::string_view kind) const;

  // Of the floating-point tensors loaded so far, e.g. "float32" or "bfloat16, float32".
  std::string dtype() const;

  // torch.save files: the dict whose tensors are read; else nullptr.
  const TorchValue* values() const { return dict_; }
  // torch.save files: from now on reads the dict under `key` of values().
  //   InvalidArgument  there is no such dict
  absl::Status Enter(absl::string_view key);

 private:
  WeightSource() = default;
  // Shape and dtype; false where there is no such tensor.
  bool Describe(absl::string_view name, std::vector<int64_t>* shape, DType* dtype) const;
  absl::StatusOr<torch::Tensor> LoadAs(absl::string_view name, absl::Span<const int64_t> shape,
                                       torch::ScalarType dtype, torch::Device device);

  std::string path_;
  std::variant<std::monostate, std::unique_ptr<SafetensorsFile>, std::unique_ptr<NpzFile>,
               std::unique_ptr<TorchFile>>
      file_;
  const TorchValue* dict_ = nullptr;  // of the TorchFile
  std::set<std::string, std::less<>> used_;
  std::set<std::string> dtypes_;
};

}  // namespace featurescope
