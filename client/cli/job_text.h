// Jobs in words, shared by all commands that submit or show one.
#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "client/cli/args.h"
#include "client/cli/terminal.h"
#include "featurescope/v1/jobs.pb.h"

namespace featurescope {

std::string StateName(v1::JobState state);  // "running"
bool IsFinal(v1::JobState state);
std::string JobTitle(const v1::Job& job);  // "train l6"

// The phase, the rate, the time left and the newest metrics; of a sweep the first SAE's.
std::string ProgressText(const v1::Job& job, const std::map<std::string, double>& metrics);

// Prints the submitted job, or with --wait follows it to its end first.
absl::Status AfterSubmission(const Args& args, CommandContext& context, v1::Job job);

}  // namespace featurescope
