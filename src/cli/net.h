/* The commands of sluice-net, and how they are announced by both programs. */
#ifndef SL_CLI_NET_H
#define SL_CLI_NET_H

#define CLI_PULL_SUMMARY  "Download a model from the Hugging Face hub"
#define CLI_SERVE_SUMMARY "Answer OpenAI's and Anthropic's APIs over HTTP"

#endif
