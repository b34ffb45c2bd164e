// Status macros and error constructors used at every module boundary.
//
// A message says what was wrong with its value and allowed range, names the file and tensor when a
// file is bad, and says what to do when something is missing.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace featurescope {

template <typename... Args>
absl::Status InvalidArgument(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}
// InvalidArgument about one field of a request, e.g. InvalidField("k", "k is 0, must be in [1,
// 4096]"). The service tells the client which field it was.
constexpr absl::string_view kFieldPayload = "featurescope.v1/field";
template <typename... Args>
absl::Status InvalidField(absl::string_view field, const Args&... args) {
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(args...));
  status.SetPayload(kFieldPayload, absl::Cord(field));
  return status;
}
template <typename... Args>
absl::Status NotFound(const Args&... args) {
  return absl::NotFoundError(absl::StrCat(args...));
}
template <typename... Args>
absl::Status FailedPrecondition(const Args&... args) {
  return absl::FailedPreconditionError(absl::StrCat(args...));
}
template <typename... Args>
absl::Status OutOfRange(const Args&... args) {
  return absl::OutOfRangeError(absl::StrCat(args...));
}
template <typename... Args>
absl::Status AlreadyExists(const Args&... args) {
  return absl::AlreadyExistsError(absl::StrCat(args...));
}
template <typename... Args>
absl::Status ResourceExhausted(const Args&... args) {
  return absl::ResourceExhaustedError(absl::StrCat(args...));
}
template <typename... Args>
absl::Status Unimplemented(const Args&... args) {
  return absl::UnimplementedError(absl::StrCat(args...));
}
// A bug of ours. Users' mistakes never end here.
template <typename... Args>
absl::Status Internal(const Args&... args) {
  return absl::InternalError(absl::StrCat(args...));
}

// The same status with `context: ` in front of its message; OK stays OK. Payloads are kept.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

// The status of a failed system call: `what: strerror(error_number)`, with the matching code
// (ENOENT -> NotFound, EACCES -> PermissionDenied, ENOSPC and EDQUOT -> ResourceExhausted, ...).
absl::Status ErrnoStatus(int error_number, absl::string_view what);

}  // namespace featurescope

#define FS_CONCAT_INNER(a, b) a##b
#define FS_CONCAT(a, b) FS_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` is not OK.
#define RETURN_IF_ERROR(expr)                               \
  do {                                                      \
    if (absl::Status fs_status = (expr); !fs_status.ok()) { \
      return fs_status;                                     \
    }                                                       \
  } while (false)

// `ASSIGN_OR_RETURN(auto x, F());` where F returns StatusOr.
#define ASSIGN_OR_RETURN(lhs, expr) \
  FS_ASSIGN_OR_RETURN_INNER(FS_CONCAT(fs_statusor_, __LINE__), lhs, expr)
#define FS_ASSIGN_OR_RETURN_INNER(statusor, lhs, expr) \
  auto statusor = (expr);                              \
  if (!statusor.ok()) return statusor.status();        \
  lhs = *std::move(statusor)
