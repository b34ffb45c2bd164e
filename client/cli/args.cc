#include "client/cli/args.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/cli/near_names.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

// More optional flags than these are only listed, not repeated in the usage line.
constexpr int kFewFlags = 8;

std::vector<std::string> FlagNames(const Command& command) {
  std::vector<std::string> names;
  for (const Flag& flag : command.flags) names.push_back(flag.name);
  return names;
}

// A value may begin with dashes, but not be a flag of the command.
bool IsFlag(const Command& command, absl::string_view word) {
  if (!absl::ConsumePrefix(&word, "--")) return false;
  return std::any_of(command.flags.begin(), command.flags.end(),
                     [&](const Flag& flag) { return word == flag.name; });
}

}  // namespace

std::string Command::Usage() const {
  std::string usage = absl::StrCat("featurescope ", name());
  for (const Positional& p : positionals) {
    absl::StrAppend(&usage, " ", p.name, p.repeated ? "..." : "");
  }
  const auto n_optional =
      std::count_if(flags.begin(), flags.end(), [](const Flag& f) { return !f.required; });
  const bool all = n_optional <= kFewFlags;
  for (const Flag& f : flags) {
    if (!f.required && !all) continue;
    const std::string form =
        absl::StrCat("--", f.name, f.value_name.empty() ? "" : " ", f.value_name);
    absl::StrAppend(&usage, f.required ? " " : " [", form, f.required ? "" : "]",
                    f.repeated ? "..." : "");
  }
  if (!all) absl::StrAppend(&usage, " [FLAG]...");
  absl::StrAppend(&usage, "\n  ", summary, "\n");
  size_t width = 0;
  for (const Flag& f : flags) width = std::max(width, f.name.size() + f.value_name.size() + 1);
  for (const Flag& f : flags) {
    const std::string form = absl::StrCat(f.name, " ", f.value_name);
    absl::StrAppend(&usage, "    --", form, std::string(width + 2 - form.size(), ' '), f.help,
                    "\n");
  }
  return usage;
}

absl::StatusOr<Args> Args::Parse(const Command& command, const std::vector<std::string>& words) {
  Args args;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!absl::StartsWith(word, "--") || word == "--") {
      args.positionals_.push_back(word);
      continue;
    }
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(word.substr(2), absl::MaxSplits('=', 1));
    const bool has_value = absl::StrContains(word, "=");
    const auto flag = std::find_if(command.flags.begin(), command.flags.end(),
                                   [&](const Flag& f) { return f.name == parts.first; });
    if (flag == command.flags.end()) {
      const std::vector<std::string> near = NearNames(parts.first, FlagNames(command));
      return InvalidArgument("unknown flag --", parts.first, near.empty() ? "" : "; near it: --",
                             absl::StrJoin(near, ", --"));
    }
    std::vector<std::string>& values = args.flags_[flag->name];
    if (!values.empty() && !flag->repeated) {
      return InvalidArgument("--", flag->name, " is given twice");
    }
    if (flag->value_name.empty()) {
      if (has_value) return InvalidArgument("--", flag->name, " takes no value");
      values.push_back("");
    } else if (has_value) {
      values.push_back(parts.second);
    } else if (i + 1 < words.size() && !IsFlag(command, words[i + 1])) {
      values.push_back(words[++i]);
    } else {
      return InvalidArgument("--", flag->name, " needs a value: ", flag->value_name);
    }
  }
  const bool open_ended = !command.positionals.empty() && command.positionals.back().repeated;
  if (args.positionals_.size() < command.positionals.size()) {
    return InvalidArgument("missing ", command.positionals[args.positionals_.size()].name);
  }
  if (args.positionals_.size() > command.positionals.size() && !open_ended) {
    return InvalidArgument("unexpected argument \"", args.positionals_[command.positionals.size()],
                           "\"");
  }
  for (const Flag& flag : command.flags) {
    if (flag.required && !args.flags_.contains(flag.name)) {
      return InvalidArgument("missing --", flag.name, " ", flag.value_name);
    }
  }
  return args;
}

std::string Args::Get(absl::string_view flag, absl::string_view otherwise) const {
  const auto found = flags_.find(std::string(flag));
  return found == flags_.end() ? std::string(otherwise) : found->second.back();
}

const std::vector<std::string>& Args::All(absl::string_view flag) const {
  static const auto* const kNone = new std::vector<std::string>();
  const auto found = flags_.find(std::string(flag));
  return found == flags_.end() ? *kNone : found->second;
}

absl::StatusOr<double> Args::Number(absl::string_view flag, double otherwise) const {
  if (!Has(flag)) return otherwise;
  double value = 0;
  if (!absl::SimpleAtod(Get(flag), &value) || !std::isfinite(value)) {
    return InvalidArgument("--", flag, " must be a number, not \"", Get(flag), "\"");
  }
  return value;
}

absl::StatusOr<uint64_t> Args::Integer(absl::string_view flag, uint64_t otherwise,
                                       uint64_t max) const {
  if (!Has(flag)) return otherwise;
  uint64_t value = 0;
  if (!absl::SimpleAtoi(Get(flag), &value) || value > max) {
    return InvalidArgument("--", flag, " must be a whole number from 0 to ", max, ", not \"",
                           Get(flag), "\"");
  }
  return value;
}

absl::StatusOr<std::vector<uint32_t>> ParseIds(absl::string_view text) {
  std::vector<uint32_t> ids;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    uint32_t id = 0;
    if (!absl::SimpleAtoi(part, &id)) {
      return InvalidArgument("\"", part, "\" is not a token id; ids are given as 1,2,3");
    }
    ids.push_back(id);
  }
  return ids;
}

}  // namespace featurescope
