// sae encode, decode, forward: vectors from and to safetensors files.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "server/base/status.h"
#include "server/formats/safetensors.h"

namespace featurescope {
namespace {

constexpr size_t kBytesPerMessage = 1 << 20;

struct Matrix {
  std::vector<int64_t> shape;  // [n, ...]
  std::vector<float> values;

  size_t n_rows() const { return static_cast<size_t>(shape[0]); }
  size_t width() const { return n_rows() == 0 ? 0 : values.size() / n_rows(); }
};

absl::StatusOr<Matrix> ReadMatrix(const std::string& path, const std::string& name) {
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  ASSIGN_OR_RETURN(const TensorEntry* entry, file.Get(name));
  if (entry->dtype != DType::kF32 || entry->shape.size() < 2 || entry->n_elements() == 0) {
    return InvalidArgument(path, ": ", name, " must be F32 [n, width] and not empty, it is ",
                           DTypeName(entry->dtype), " [", absl::StrJoin(entry->shape, ", "), "]");
  }
  Matrix matrix{entry->shape, std::vector<float>(static_cast<size_t>(entry->n_elements()))};
  RETURN_IF_ERROR(file.Read(
      *entry, absl::MakeSpan(reinterpret_cast<char*>(matrix.values.data()), entry->bytes())));
  return matrix;
}

absl::Status WriteMatrices(const std::string& path,
                           const std::vector<std::pair<std::string, const Matrix*>>& matrices) {
  std::vector<SafetensorsWriter::Spec> specs;
  for (const auto& [name, matrix] : matrices) specs.push_back({name, DType::kF32, matrix->shape});
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, specs));
  for (const auto& [name, matrix] : matrices) {
    RETURN_IF_ERROR(writer.Append(
        name, absl::MakeConstSpan(reinterpret_cast<const char*>(matrix->values.data()),
                                  matrix->values.size() * sizeof(float))));
  }
  return writer.Finish();
}

// Adds the rows of `sparse` as dense rows.
absl::Status AppendDense(const v1::SparseRows& sparse, Matrix* dense) {
  const size_t n_cols = sparse.n_cols();
  for (int row = 0; row + 1 < sparse.row_offsets_size(); ++row) {
    const size_t start = dense->values.size();
    dense->values.resize(start + n_cols);
    for (uint32_t i = sparse.row_offsets(row); i < sparse.row_offsets(row + 1); ++i) {
      const uint32_t column = sparse.indices(static_cast<int>(i));
      if (column >= n_cols) return Internal("the server answered column ", column, " of ", n_cols);
      dense->values[start + column] = sparse.values(static_cast<int>(i));
    }
  }
  return absl::OkStatus();
}

// What one of the three commands wants.
struct Wanted {
  bool feature_acts = false;
  bool sae_out = false;
};

absl::Status EncodeFile(const Args& args, CommandContext& context, Wanted wanted) {
  ASSIGN_OR_RETURN(const Matrix x, ReadMatrix(args.Get("in"), "x"));
  const size_t per_message = std::max<size_t>(1, kBytesPerMessage / (x.width() * sizeof(float)));
  grpc::ClientContext call;
  auto stream = context.client.explore().EncodeVectors(&call);
  Matrix acts;
  Matrix out;
  // One message is under way at a time: neither side has to hold more.
  for (size_t row = 0; row < x.n_rows(); row += per_message) {
    const size_t n = std::min(per_message, x.n_rows() - row);
    v1::EncodeVectorsRequest request;
    if (row == 0) request.set_sae_id(args.at(0));
    request.set_n_vectors(static_cast<uint32_t>(n));
    request.set_reconstruct(wanted.sae_out);
    const float* begin = x.values.data() + row * x.width();
    request.mutable_vectors()->Add(begin, begin + n * x.width());
    v1::EncodeVectorsResponse response;
    if (!stream->Write(request) || !stream->Read(&response)) break;
    if (wanted.feature_acts) {
      acts.shape = {x.shape[0], response.feature_acts().n_cols()};
      RETURN_IF_ERROR(AppendDense(response.feature_acts(), &acts));
    }
    out.values.insert(out.values.end(), response.sae_out().begin(), response.sae_out().end());
  }
  stream->WritesDone();
  RETURN_IF_ERROR(context.client.Explain(stream->Finish()));
  // As x, head by head where it came so; a transcoder's output has a width of its own.
  out.shape =
      out.values.size() == x.values.size()
          ? x.shape
          : std::vector<int64_t>{x.shape[0], static_cast<int64_t>(out.values.size() / x.n_rows())};
  std::vector<std::pair<std::string, const Matrix*>> results;
  if (wanted.feature_acts) results.emplace_back("feature_acts", &acts);
  if (wanted.sae_out) results.emplace_back("sae_out", &out);
  return WriteMatrices(args.Get("out"), results);
}

absl::Status DecodeFile(const Args& args, CommandContext& context) {
  ASSIGN_OR_RETURN(const Matrix acts, ReadMatrix(args.Get("in"), "feature_acts"));
  const size_t per_message = std::max<size_t>(1, kBytesPerMessage / (acts.width() * sizeof(float)));
  grpc::ClientContext call;
  auto stream = context.client.explore().DecodeVectors(&call);
  Matrix out;
  for (size_t row = 0; row < acts.n_rows(); row += per_message) {
    const size_t n = std::min(per_message, acts.n_rows() - row);
    v1::DecodeVectorsRequest request;
    if (row == 0) request.set_sae_id(args.at(0));
    v1::SparseRows& sparse = *request.mutable_feature_acts();
    sparse.set_n_cols(static_cast<uint32_t>(acts.width()));
    sparse.add_row_offsets(0);
    for (size_t r = row; r < row + n; ++r) {
      for (size_t c = 0; c < acts.width(); ++c) {
        const float value = acts.values[r * acts.width() + c];
        if (value == 0) continue;
        sparse.add_indices(static_cast<uint32_t>(c));
        sparse.add_values(value);
      }
      sparse.add_row_offsets(static_cast<uint32_t>(sparse.values_size()));
    }
    v1::DecodeVectorsResponse response;
    if (!stream->Write(request) || !stream->Read(&response)) break;
    out.values.insert(out.values.end(), response.sae_out().begin(), response.sae_out().end());
  }
  stream->WritesDone();
  RETURN_IF_ERROR(context.client.Explain(stream->Finish()));
  out.shape = {acts.shape[0], static_cast<int64_t>(out.values.size() / acts.n_rows())};
  return WriteMatrices(args.Get("out"), {{"sae_out", &out}});
}

void Report(const Args& args, const CommandContext& context) {
  Print(context.json ? absl::StrCat("{\"out\": \"", args.Get("out"), "\"}\n")
                     : absl::StrCat("wrote ", args.Get("out"), "\n"));
}

}  // namespace

std::vector<Command> VectorCommands() {
  auto encode = [](Wanted wanted) {
    return [wanted](const Args& args, CommandContext& context) -> absl::Status {
      RETURN_IF_ERROR(EncodeFile(args, context, wanted));
      Report(args, context);
      return absl::OkStatus();
    };
  };
  const Flag out{"out", "F", "the file to write", true};
  const Flag in_x{"in", "F", "safetensors with x [n, d_in]", true};
  return {
      {"sae",
       "encode",
       "Writes feature_acts [n, d_sae] of the vectors in a file.",
       {{"ID"}},
       {in_x, out},
       encode({.feature_acts = true})},
      {"sae",
       "decode",
       "Writes sae_out [n, d_in] of the activations in a file.",
       {{"ID"}},
       {{"in", "F", "safetensors with feature_acts [n, d_sae]", true}, out},
       [](const Args& args, CommandContext& context) -> absl::Status {
         RETURN_IF_ERROR(DecodeFile(args, context));
         Report(args, context);
         return absl::OkStatus();
       }},
      {"sae",
       "forward",
       "Writes both feature_acts and sae_out of the vectors in a file.",
       {{"ID"}},
       {in_x, out},
       encode({.feature_acts = true, .sae_out = true})},
  };
}

}  // namespace featurescope
