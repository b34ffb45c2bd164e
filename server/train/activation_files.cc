#include "server/train/activation_files.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/tensor/gate.h"
#include "server/tensor/weights.h"

namespace featurescope {
namespace {

using nlohmann::json;

constexpr int kFormatVersion = 1;
constexpr int64_t kTouchedRows = 256;

absl::StatusOr<DType> ParseDType(const std::string& name, const std::string& where) {
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  if (name == "float32") return DType::kF32;
  return InvalidArgument(where, ": dtype is '", name, "'; it may be float16, bfloat16 or float32");
}

}  // namespace

std::string ActivationShardPath(const std::string& dir, size_t channel, int64_t shard) {
  return JoinPath(dir, absl::StrCat(channel, "-", absl::Dec(shard, absl::kZeroPad6), ".bin"));
}

absl::StatusOr<std::shared_ptr<const ActivationFiles>> ActivationFiles::OpenRaw(
    const std::vector<Channel>& channels) {
  auto files = std::make_shared<ActivationFiles>();
  RETURN_IF_ERROR(files->Open(channels));
  files->identity_ = "raw";
  for (const Channel& channel : channels) {
    absl::StrAppend(&files->identity_, "|", absl::StrJoin(channel.paths, ","));
  }
  absl::StrAppend(&files->identity_, "|", files->n_rows_);
  return files;
}

absl::StatusOr<std::shared_ptr<const ActivationFiles>> ActivationFiles::OpenCache(
    const std::string& dir) {
  const std::string path = JoinPath(dir, kActivationCacheFile);
  ASSIGN_OR_RETURN(const json meta, ReadJsonFile(path));
  ASSIGN_OR_RETURN(const int64_t version, JsonInt(meta, "format", path));
  if (version != kFormatVersion) {
    return InvalidArgument(path, ": format is ", version, ", this server reads ", kFormatVersion);
  }
  ASSIGN_OR_RETURN(const std::string dtype_name, JsonString(meta, "dtype", path));
  ASSIGN_OR_RETURN(const DType dtype, ParseDType(dtype_name, path));
  ASSIGN_OR_RETURN(const int64_t shards, JsonInt(meta, "shards", path, 1, kMaxActivationShards));
  const auto hooks = meta.find("channels");
  if (hooks == meta.end() || !hooks->is_array() || hooks->empty() || hooks->size() > 64) {
    return InvalidArgument(path, ": channels is no list of 1 to 64 hook points");
  }
  std::vector<Channel> channels;
  for (const json& hook : *hooks) {
    Channel channel;
    ASSIGN_OR_RETURN(channel.hook_name, JsonString(hook, "hook", path));
    ASSIGN_OR_RETURN(channel.width, JsonInt(hook, "width", path, 1, kMaxRawMemmapWidth));
    channel.dtype = dtype;
    for (int64_t shard = 0; shard < shards; ++shard) {
      channel.paths.push_back(ActivationShardPath(dir, channels.size(), shard));
    }
    channels.push_back(std::move(channel));
  }
  auto files = std::make_shared<ActivationFiles>();
  RETURN_IF_ERROR(files->Open(channels));
  ASSIGN_OR_RETURN(const int64_t rows, JsonInt(meta, "rows", path));
  if (rows != files->n_rows_) {
    return absl::DataLossError(
        absl::StrCat(path, ": rows is ", rows, ", but the shards have ", files->n_rows_));
  }
  files->identity_ = meta.dump();
  return files;
}

absl::StatusOr<size_t> ActivationFiles::FindChannel(const HookPoint& hook, size_t place) const {
  const std::string name = hook.name();
  for (size_t i = 0; i < channels_.size(); ++i) {
    if (channels_[i].hook_name == name) return i;
  }
  if (place < channels_.size() && channels_[place].hook_name.empty()) return place;
  return InvalidArgument("the files of activations have none of ", name);
}

absl::Status ActivationFiles::Open(const std::vector<Channel>& channels) {
  channels_ = channels;
  if (channels.empty()) return InvalidArgument("there are no files of activations");
  for (size_t i = 0; i < channels.size(); ++i) {
    std::vector<File> files;
    int64_t rows = 0;
    for (const std::string& path : channels[i].paths) {
      ASSIGN_OR_RETURN(RawMemmap file, RawMemmap::Open(path, channels[i].dtype, channels[i].width));
      const int64_t n = file.n_rows();
      files.push_back({std::move(file), rows});
      rows += n;
    }
    if (rows == 0) return InvalidArgument("channel ", i, " of the activations has no rows");
    if (i > 0 && rows != n_rows_) {
      return InvalidArgument("channel ", i, " of the activations has ", rows,
                             " rows, channel 0 has ", n_rows_);
    }
    n_rows_ = rows;
    files_.push_back(std::move(files));
  }
  return absl::OkStatus();
}

template <typename F>
absl::Status ActivationFiles::ForFiles(size_t channel, int64_t begin, int64_t n, const F& f) const {
  if (begin < 0 || n < 0 || begin > n_rows_ || n > n_rows_ - begin) {
    return OutOfRange("rows [", begin, ", +", n, ") are out of range [0, ", n_rows_, ")");
  }
  const std::vector<File>& files = files_[channel];
  auto file = std::upper_bound(files.begin(), files.end(), begin,
                               [](int64_t row, const File& of) { return row < of.begin; }) -
              1;
  while (n > 0) {
    const int64_t first = begin - file->begin;
    const int64_t count = std::min(n, file->rows.n_rows() - first);
    if (count > 0) RETURN_IF_ERROR(f(file->rows, first, count));
    begin += count;
    n -= count;
    ++file;
  }
  return absl::OkStatus();
}

absl::Status ActivationFiles::ReadRows(size_t channel, int64_t begin, int64_t n,
                                       torch::Tensor out) const {
  int64_t at = 0;
  RETURN_IF_ERROR(ForFiles(
      channel, begin, n, [&](const RawMemmap& file, int64_t first, int64_t count) -> absl::Status {
        torch::Tensor piece;
        RETURN_IF_ERROR(TorchGate("reading activations", [&] {
          piece = torch::empty({count, file.d_in()}, ToScalarType(file.dtype()));
        }));
        RETURN_IF_ERROR(
            file.ReadRows(first, count,
                          absl::MakeSpan(static_cast<char*>(piece.data_ptr()),
                                         static_cast<uint64_t>(count) * file.row_bytes())));
        return TorchGate("reading activations", [&]() -> absl::Status {
          torch::Tensor destination = out.slice(0, at, at + count);
          destination.copy_(piece);
          at += count;
          if (torch::isfinite(destination).all().item<bool>()) return absl::OkStatus();
          return FailedPrecondition(file.path(), ": a value in rows [", first, ", ", first + count,
                                    ") is not finite");
        });
      }));
  return absl::OkStatus();
}

void ActivationFiles::Touch(size_t channel, int64_t begin, int64_t n) const {
  std::vector<char> buffer;
  const absl::Status ignored =
      ForFiles(channel, begin, n, [&](const RawMemmap& file, int64_t first, int64_t count) {
        for (int64_t at = 0; at < count; at += kTouchedRows) {
          const int64_t rows = std::min(kTouchedRows, count - at);
          buffer.resize(static_cast<uint64_t>(rows) * file.row_bytes());
          RETURN_IF_ERROR(file.ReadRows(first + at, rows, absl::MakeSpan(buffer)));
        }
        return absl::OkStatus();
      });
}

}  // namespace featurescope
