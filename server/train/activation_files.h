// Activations on disk: raw files of rows, or a cache that this server has written.
//
// A cache is a directory:
//   activations.json         dtype, hook points, rows of each shard; written last
//   <channel>-<shard>.bin    rows one after the other, as np.memmap reads them
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/hook_point.h"
#include "server/formats/raw_memmap.h"
#include "server/tensor/torch.h"

namespace featurescope {

constexpr char kActivationCacheFile[] = "activations.json";
constexpr int64_t kMaxActivationShards = 4096;
std::string ActivationShardPath(const std::string& dir, size_t channel, int64_t shard);

// Const and thread-safe.
class ActivationFiles {
 public:
  // One hook point's rows, in files that follow each other.
  struct Channel {
    std::string hook_name;  // as TransformerLens names it; may be empty
    DType dtype = DType::kF16;
    int64_t width = 0;
    std::vector<std::string> paths;
  };
  // Inputs, and for transcoders targets, as raw files of numbers.
  //   errors  those of RawMemmap::Open; InvalidArgument  no channel, or channels with different
  //           numbers of rows
  static absl::StatusOr<std::shared_ptr<const ActivationFiles>> OpenRaw(
      const std::vector<Channel>& channels);
  // A cache.   errors  NotFound, InvalidArgument, DataLoss  naming the file
  static absl::StatusOr<std::shared_ptr<const ActivationFiles>> OpenCache(const std::string& dir);

  int64_t n_rows() const { return n_rows_; }
  const std::vector<Channel>& channels() const { return channels_; }
  // The channel with the hook's rows: by its name; where channels have no names, by its place.
  //   errors  InvalidArgument  there is none
  absl::StatusOr<size_t> FindChannel(const HookPoint& hook, size_t place) const;
  // What the rows are, for telling one run's files from another's: names, sizes and, of a cache,
  // where its rows came from.
  const std::string& identity() const { return identity_; }

  // Reads rows [begin, begin + n) of a channel to `out`, float32 [n, width] on any device.
  //   errors  those of RawMemmap::ReadRows; FailedPrecondition  a value is not finite
  absl::Status ReadRows(size_t channel, int64_t begin, int64_t n, torch::Tensor out) const;
  // Brings rows into the system's page cache, by reading them.
  void Touch(size_t channel, int64_t begin, int64_t n) const;

 private:
  struct File {
    RawMemmap rows;
    int64_t begin = 0;  // the first row's number
  };

  absl::Status Open(const std::vector<Channel>& channels);
  // Calls f(file, first row in it, rows) for the files that hold rows [begin, begin + n).
  template <typename F>
  absl::Status ForFiles(size_t channel, int64_t begin, int64_t n, const F& f) const;

  std::vector<Channel> channels_;
  std::vector<std::vector<File>> files_;  // of each channel
  int64_t n_rows_ = 0;
  std::string identity_;
};

}  // namespace featurescope
