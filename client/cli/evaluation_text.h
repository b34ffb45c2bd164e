// Evaluations in words.
#pragma once

#include <string>

#include "client/cli/terminal.h"
#include "featurescope/v1/evaluation.pb.h"
#include "featurescope/v1/jobs.pb.h"

namespace featurescope {

// Every metric with its definition, in the order of the definitions.
std::string EvaluationTable(const Terminal& terminal, const v1::Evaluation& evaluation,
                            const v1::ListEvaluationsResponse& response);

// What matters most, in a line: "on web (65536 tokens): L0 32, explained variance 0.91, ...".
std::string EvaluationLine(const v1::Evaluation& evaluation);

}  // namespace featurescope
