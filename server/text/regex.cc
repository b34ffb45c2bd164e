#include "server/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/text/characters.h"
#include "server/text/regex_dialect.h"

namespace featurescope {
namespace {

constexpr uint32_t kMaxNesting = 100;
constexpr size_t kMaxBacktracks = 1'000'000;  // of one match, and so many for each byte:
constexpr size_t kBacktracksPerByte = 4;      // a run of spaces may be given back one by one
constexpr uint32_t kMaxHeapKib = 64u << 10;   // of one match without the JIT compiler
constexpr size_t kJitStackBytes = 1u << 20;
// A scan that takes longer than this and a second for a megabyte is given up.
constexpr double kMaxSeconds = 2;
// PCRE2 is asked for matches that begin within so many bytes at a time: their number times the
// text is what one question may cost.
constexpr size_t kMaxStarts = 64u << 10;
constexpr size_t kMaxStartsTimesText = 1u << 28;

template <auto Free>
struct FreeWith {
  template <typename T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};

// What a thread needs to run matches; made once a thread.
struct MatchState {
  MatchState()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(32u << 10, kJitStackBytes, nullptr)) {
    pcre2_set_heap_limit(context.get(), kMaxHeapKib);
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
  std::unique_ptr<pcre2_match_data, FreeWith<pcre2_match_data_free>> data;
  std::unique_ptr<pcre2_match_context, FreeWith<pcre2_match_context_free>> context;
  std::unique_ptr<pcre2_jit_stack, FreeWith<pcre2_jit_stack_free>> stack;
};

MatchState& ThreadsMatchState() {
  thread_local MatchState state;
  return state;
}

std::string ErrorText(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

// The time that PCRE2 may take for one text. Between matches that are found the clock is looked at
// now and then; a question that finds none has read a lot.
class Budget {
 public:
  explicit Budget(size_t text_bytes)
      : seconds_left_(kMaxSeconds + static_cast<double>(text_bytes) / 1e6),
        questions_a_look_(
            std::clamp((size_t{16} << 20) / (text_bytes + 1), size_t{1}, size_t{64})) {}

  void BeginQuestion() {
    looks_ = n_questions_++ % questions_a_look_ == 0;
    begin_ = Clock::now();
  }
  // False when the time is up.
  bool EndQuestion(bool found) {
    if (!looks_ && found) return true;
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    seconds_left_ -= seconds * (found ? static_cast<double>(questions_a_look_) : 1);
    return seconds_left_ > 0;
  }

 private:
  using Clock = std::chrono::steady_clock;
  double seconds_left_;
  const size_t questions_a_look_;
  size_t n_questions_ = 0;
  bool looks_ = false;
  Clock::time_point begin_;
};

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, FreeWith<pcre2_code_free>> code;

  // The first match that begins within [at, limit]; a PCRE2 error otherwise.
  int Find(absl::string_view text, size_t at, size_t limit, size_t* begin, size_t* end) const {
    const MatchState& state = ThreadsMatchState();
    pcre2_set_offset_limit(state.context.get(), limit);
    pcre2_set_match_limit(state.context.get(),
                          static_cast<uint32_t>(std::min<size_t>(
                              kMaxBacktracks + kBacktracksPerByte * text.size(), UINT32_MAX)));
    const auto run = [&](uint32_t options) {
      return pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                         PCRE2_NO_UTF_CHECK | options, state.data.get(), state.context.get());
    };
    int result = run(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
    const PCRE2_SIZE* match = pcre2_get_ovector_pointer(state.data.get());
    *begin = match[0];
    *end = match[1];
    return result;
  }
};

Regex::~Regex() = default;

absl::StatusOr<std::unique_ptr<const Regex>> Regex::Compile(absl::string_view pattern) {
  const auto quoted = [&] { return PrintableUtf8(pattern, 200); };
  if (pattern.size() > kMaxPatternBytes) {
    return InvalidArgument("pattern of ", pattern.size(), " bytes, at most ", kMaxPatternBytes,
                           " are allowed");
  }
  const auto translated = OnigurumaToPcre2(pattern);
  if (!translated.ok()) return Annotate(translated.status(), absl::StrCat("pattern ", quoted()));
  std::unique_ptr<pcre2_compile_context, FreeWith<pcre2_compile_context_free>> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto regex = std::unique_ptr<Regex>(new Regex());
  regex->pattern_ = quoted();
  regex->code_ = std::make_unique<Code>();
  regex->code_->code.reset(pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT,
      &error, &offset, context.get()));
  if (regex->code_->code == nullptr) {
    return InvalidArgument("pattern ", quoted(), " is refused: ", ErrorText(error));
  }
  // Where there is no JIT compiler, or it gives up on the pattern, the interpreter runs it.
  (void)pcre2_jit_compile(regex->code_->code.get(), PCRE2_JIT_COMPLETE);
  return std::unique_ptr<const Regex>(std::move(regex));
}

absl::Status Regex::ForEachMatch(absl::string_view text,
                                 absl::FunctionRef<absl::Status(size_t, size_t)> on_match) const {
  constexpr size_t kNowhere = PCRE2_UNSET;
  const size_t starts = std::clamp(kMaxStartsTimesText / (text.size() + 1), size_t{1}, kMaxStarts);
  const auto character_end = [text](size_t at) {
    return at < text.size() ? at + CharacterAt(text, at).size : at + 1;
  };
  Budget budget(text.size());
  size_t last_end = kNowhere;
  for (size_t at = 0; at <= text.size();) {
    const size_t limit = Utf8CutBefore(text, at + starts);
    budget.BeginQuestion();
    size_t begin = 0, end = 0;
    const int result = code_->Find(text, at, limit, &begin, &end);
    if (result < 0 && result != PCRE2_ERROR_NOMATCH) {
      return ResourceExhausted("pattern ", pattern_, " cannot be run on this text of ", text.size(),
                               " bytes: ", ErrorText(result));
    }
    if (!budget.EndQuestion(result >= 0)) {
      return ResourceExhausted("pattern ", pattern_, " takes too long on this text of ",
                               text.size(), " bytes");
    }
    if (result == PCRE2_ERROR_NOMATCH) {
      at = character_end(limit);
    } else if (begin == end && end == last_end) {
      at = character_end(at);
    } else {
      RETURN_IF_ERROR(on_match(begin, end));
      at = last_end = end;
    }
  }
  return absl::OkStatus();
}

}  // namespace featurescope
