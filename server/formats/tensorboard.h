// TensorBoard's event files: scalars by step, for `tensorboard --logdir`.
//
// A run is a directory. Each start of the run writes a file of its own into it:
//   events.out.tfevents.<10 digits of seconds since 1970>.featurescope
// whose name sorts behind those of all earlier starts, as TensorBoard reads them in that order. The
// file begins with its version and the mark of a session's start; of a later start, the mark's step
// tells TensorBoard to forget what earlier files say of that step and of all after it. So after a
// crash superseded points are not shown, though they stay in the files.
//
// A file is a sequence of records, each a protobuf message tensorflow.Event:
//   uint64 length, uint32 MaskedCrc32c(length), the message, uint32 MaskedCrc32c(message)
// all little-endian (TFRecord, tensorflow/core/lib/io/record_writer.h; tensorflow/core/util/
// event.proto).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/formats/file.h"

namespace featurescope {

// CRC-32C (Castagnoli, RFC 3720), and its form in TFRecords, where a checksum may be over data that
// holds checksums.
uint32_t Crc32c(absl::string_view bytes);
uint32_t MaskedCrc32c(absl::string_view bytes);

// Appends to a file as it goes: what a call has written is there for TensorBoard to read, though
// not synced. Not thread-safe.
class TensorBoardWriter {
 public:
  // Begins a new file in `dir`, which is created where it is missing.
  //
  //   first_step  the first that will be written; of earlier files, TensorBoard forgets it and all
  //               after it
  //   errors      of writing, naming the file
  static absl::StatusOr<TensorBoardWriter> Create(const std::string& dir, uint64_t first_step,
                                                  absl::Time now);

  // TensorBoard shows single precision.
  //   errors  of writing; the file then ends with a part of a record, which readers leave out
  absl::Status AddScalars(uint64_t step, absl::Time time,
                          const std::map<std::string, double>& values);
  // The run begins again at `step`: as a new file, within this one.
  absl::Status Restart(uint64_t step, absl::Time time);

  const std::string& path() const { return path_; }

 private:
  TensorBoardWriter(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  absl::Status WriteRecord(absl::string_view message);

  std::string path_;
  UniqueFd fd_;
};

}  // namespace featurescope
