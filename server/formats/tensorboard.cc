#include "server/formats/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "server/base/status.h"
#include "server/formats/little_endian.h"

namespace featurescope {
namespace {

constexpr absl::string_view kPrefix = "events.out.tfevents.";
constexpr size_t kDigits = 10;
constexpr int64_t kMostSeconds = 9'999'999'999;
constexpr absl::string_view kVersion = "brain.Event:2";

// Fields of tensorflow.Event, Summary, Summary.Value and SessionLog.
constexpr uint32_t kEventWallTime = 1;
constexpr uint32_t kEventStep = 2;
constexpr uint32_t kEventFileVersion = 3;
constexpr uint32_t kEventSummary = 5;
constexpr uint32_t kEventSessionLog = 7;
constexpr uint32_t kSummaryValue = 1;
constexpr uint32_t kValueTag = 1;
constexpr uint32_t kValueSimpleValue = 2;
constexpr uint32_t kSessionStatus = 1;
constexpr uint64_t kSessionStart = 1;

// Protobuf's wire types.
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kBytes = 2;
constexpr uint32_t kFixed32 = 5;

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void AppendTag(uint32_t field, uint32_t wire_type, std::string* out) {
  AppendVarint(field << 3 | wire_type, out);
}

void AppendBytes(uint32_t field, absl::string_view bytes, std::string* out) {
  AppendTag(field, kBytes, out);
  AppendVarint(bytes.size(), out);
  absl::StrAppend(out, bytes);
}

// What every event has.
std::string Event(uint64_t step, absl::Time time) {
  std::string event;
  AppendTag(kEventWallTime, kFixed64, &event);
  AppendLe(&event, std::bit_cast<uint64_t>(absl::ToDoubleSeconds(time - absl::UnixEpoch())));
  AppendTag(kEventStep, kVarint, &event);
  AppendVarint(step, &event);
  return event;
}

std::string SummaryValue(absl::string_view tag, double value) {
  std::string out;
  AppendBytes(kValueTag, tag, &out);
  AppendTag(kValueSimpleValue, kFixed32, &out);
  AppendLe(&out, std::bit_cast<uint32_t>(static_cast<float>(value)));
  return out;
}

// The seconds in the name of an event file; -1 for any other file.
int64_t SecondsOf(absl::string_view name) {
  int64_t seconds = 0;
  if (!absl::StartsWith(name, kPrefix)) return -1;
  name.remove_prefix(kPrefix.size());
  return absl::SimpleAtoi(name.substr(0, kDigits), &seconds) ? seconds : -1;
}

// Of the latest event file in `dir`; -1: there is none.
absl::StatusOr<int64_t> LatestSeconds(const std::string& dir) {
  int64_t latest = -1;
  std::error_code error;
  for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    latest = std::max(latest, SecondsOf(it->path().filename().string()));
  }
  if (error) return ErrnoStatus(error.value(), dir);
  return latest;
}

constexpr std::array<uint32_t, 256> MakeCrcTable() {
  constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = MakeCrcTable();

}  // namespace

uint32_t Crc32c(absl::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

uint32_t MaskedCrc32c(absl::string_view bytes) {
  constexpr uint32_t kDelta = 0xa282ead8;
  return std::rotr(Crc32c(bytes), 15) + kDelta;
}

absl::StatusOr<TensorBoardWriter> TensorBoardWriter::Create(const std::string& dir,
                                                            uint64_t first_step, absl::Time now) {
  RETURN_IF_ERROR(EnsureDir(dir));
  ASSIGN_OR_RETURN(const int64_t latest, LatestSeconds(dir));
  // A clock that was set back, or a second start within one second, must not sort before.
  const int64_t seconds =
      std::clamp(std::max(absl::ToUnixSeconds(now), latest + 1), int64_t{0}, kMostSeconds);
  std::string path = JoinPath(dir, absl::StrFormat("%s%010d.featurescope", kPrefix, seconds));
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, path);
  TensorBoardWriter writer(std::move(path), std::move(fd));
  std::string version = Event(0, now);
  AppendBytes(kEventFileVersion, kVersion, &version);
  RETURN_IF_ERROR(writer.WriteRecord(version));
  RETURN_IF_ERROR(writer.Restart(first_step, now));
  return writer;
}

absl::Status TensorBoardWriter::Restart(uint64_t step, absl::Time time) {
  std::string session;
  AppendTag(kSessionStatus, kVarint, &session);
  AppendVarint(kSessionStart, &session);
  std::string event = Event(step, time);
  AppendBytes(kEventSessionLog, session, &event);
  return WriteRecord(event);
}

absl::Status TensorBoardWriter::AddScalars(uint64_t step, absl::Time time,
                                           const std::map<std::string, double>& values) {
  std::string summary;
  for (const auto& [name, value] : values) {
    AppendBytes(kSummaryValue, SummaryValue(name, value), &summary);
  }
  std::string event = Event(step, time);
  AppendBytes(kEventSummary, summary, &event);
  return WriteRecord(event);
}

absl::Status TensorBoardWriter::WriteRecord(absl::string_view message) {
  std::string record;
  AppendLe(&record, uint64_t{message.size()});
  AppendLe(&record, MaskedCrc32c(record));
  absl::StrAppend(&record, message);
  AppendLe(&record, MaskedCrc32c(message));
  absl::string_view rest = record;
  while (!rest.empty()) {
    const ssize_t n = ::write(fd_.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, path_);
    rest.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

}  // namespace featurescope
