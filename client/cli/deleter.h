// The command that deletes an entry of the catalog by its id.
#pragma once

#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "server/base/status.h"

namespace featurescope {

// Calls `method` with a request whose id `set_id` fills in from the first word.
template <typename Request>
std::function<absl::Status(const Args&, CommandContext&)> Deleter(
    grpc::Status (v1::CatalogService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                     v1::DeleteResponse*),
    void (*set_id)(Request*, const std::string&)) {
  return [method, set_id](const Args& args, CommandContext& context) -> absl::Status {
    Request request;
    set_id(&request, args.at(0));
    v1::DeleteResponse response;
    RETURN_IF_ERROR(context.client.Call(context.client.catalog(), method, request, &response));
    PrintAnswer(context, response, absl::StrCat("deleted ", args.at(0), "\n"));
    return absl::OkStatus();
  };
}

}  // namespace featurescope
