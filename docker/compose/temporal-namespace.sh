#!/bin/sh
# Makes the namespace and the search attributes of BAAS, unless they are there.
set -eu
until temporal operator cluster health; do sleep 2; done
temporal operator namespace describe --namespace default >/dev/null 2>&1 ||
  temporal operator namespace create --namespace default --retention 168h
for attribute in BaasApp:Keyword BaasOwner:Keyword BaasStatus:Keyword BaasOrderDate:Datetime; do
  temporal operator search-attribute create --namespace default --name "${attribute%%:*}" --type "${attribute##*:}" ||
    echo "${attribute%%:*} is there"
done
